//! The queues alone, between two threads.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::mesh::{Port, mesh};
use super::super::message::{Answer, Message};
use super::super::slots::Slots;
use crate::engine::Log;
use crate::limits::{HOP_NOTICES_MAX, HOPS_IN_FLIGHT_MAX};
use crate::ring::Doorbell;

/// Parks as a driver does; whoever sent something wakes us, or the test fails.
fn park(port: &Port, doorbell: &Doorbell) {
    doorbell.park();
    if !port.has_incoming() {
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        let woken = poll(&mut [PollFd::new(doorbell, PollFlags::IN)], Some(&patience)).expect("polls");
        assert_eq!(woken, 1, "a parked shard is woken");
    }
    doorbell.unpark();
}

/// Sends `count` numbers, each only when there is room.
fn send_all(mut port: Port, count: u32) {
    let key = Slots::new().put(());
    for number in 0..count {
        let mut message = Message::Answer(key, Answer::Seen(Box::new(number)));
        while let Err(back) = port.send_notice(1, message) {
            port.ring(1);
            std::thread::yield_now();
            message = back;
        }
        if number % 7 == 0 {
            port.ring(1);
        }
    }
    port.ring(1);
}

#[test]
fn messages_arrive_in_order_at_a_shard_that_parks_between_them() {
    const COUNT: u32 = 100_000;
    let doorbells: Vec<_> = (0..2).map(|_| Doorbell::new().expect("an eventfd")).collect();
    let doorbell = doorbells[1].clone();
    let mut ports = mesh(doorbells).into_iter();
    let (sender, mut receiver) = (ports.next().expect("two"), ports.next().expect("two"));
    let sending = std::thread::spawn(move || send_all(sender, COUNT));
    let mut expected = 0;
    while expected < COUNT {
        let Some(message) = receiver.receive(0) else {
            park(&receiver, &doorbell);
            continue;
        };
        let Message::Answer(_, Answer::Seen(number)) = message else { panic!("a number was sent") };
        assert_eq!(number.downcast_ref(), Some(&expected), "in order, each once");
        expected += 1;
    }
    sending.join().expect("sends");
    assert!(receiver.receive(0).is_none() && receiver.is_gone(0), "then the sender is gone");
}

#[test]
fn notices_leave_the_room_of_calls_and_answers_alone() {
    let doorbells = (0..2).map(|_| Doorbell::new().expect("an eventfd")).collect();
    let mut ports = mesh::<Log>(doorbells);
    let key = Slots::new().put(());
    for _ in 0..HOP_NOTICES_MAX {
        assert!(ports[0].send_notice(1, Message::Advanced(key)).is_ok());
    }
    assert!(ports[0].send_notice(1, Message::Advanced(key)).is_err());
    for _ in 0..2 * HOPS_IN_FLIGHT_MAX {
        ports[0].send(1, Message::Answer(key, Answer::Gone(None)));
    }
    let received = std::iter::from_fn(|| ports[1].receive(0)).count();
    assert_eq!(received, HOP_NOTICES_MAX + 2 * HOPS_IN_FLIGHT_MAX);
}
