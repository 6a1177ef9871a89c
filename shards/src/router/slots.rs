//! Slots with keys that are never valid twice: who comes late with an old key finds nothing instead of somebody else's.

/// Names a slot and its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by key.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    /// No slots; they are made as they are needed and kept.
    pub(super) fn new() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Keeps `value`.
    pub(super) fn put(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            u32::try_from(self.slots.len() - 1).expect("what waits is bounded far below 2^32")
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.value.is_none(), "a free slot is empty");
        slot.value = Some(value);
        Key { index, generation: slot.generation }
    }

    /// The value of `key`, if it is still kept.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// Gives the value of `key` back and ends the key.
    pub(super) fn take(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let slot = &mut self.slots[key.index as usize];
        // 2^32 uses of one slot later an old key would be valid again; messages do not live that long.
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        slot.value.take()
    }

    /// All values.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// Takes every value that `select` wants.
    pub(super) fn take_if(&mut self, select: impl Fn(&T) -> bool) -> Vec<T> {
        let wanted = |slot: &Slot<T>| slot.value.as_ref().is_some_and(&select);
        let keys: Vec<Key> = (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| wanted(slot))
            .map(|(index, slot)| Key { index, generation: slot.generation })
            .collect();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_although_its_slot_is_used_again() {
        let mut slots = Slots::new();
        let first = slots.put("first");
        assert_eq!((slots.take(first), slots.take(first), slots.len()), (Some("first"), None, 0));
        let second = slots.put("second");
        assert_eq!(second.index, first.index, "the slot is used again");
        assert!(slots.get_mut(first).is_none() && slots.take(first).is_none());
        assert_eq!((slots.take(second), slots.len()), (Some("second"), 0));
    }

    #[test]
    fn those_wanted_are_taken_and_the_others_stay() {
        let mut slots = Slots::new();
        let keys: Vec<Key> = (0..10).map(|value| slots.put(value)).collect();
        assert_eq!(slots.take_if(|value| value % 3 == 0), [0, 3, 6, 9]);
        assert_eq!((slots.len(), slots.take(keys[3]), slots.take(keys[4])), (6, None, Some(4)));
    }
}
