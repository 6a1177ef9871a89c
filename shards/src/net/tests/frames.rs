//! Frames of all sizes, cut in all ways, answered in all orders.

use super::harness::*;

/// A frame whose bytes tell where they belong.
fn patterned(order: u8, length: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..length).map(|i| u8::try_from(i * 7 % 251).expect("below 251")).collect();
    frame[0] = order;
    frame
}

#[test]
fn echo_over_one_and_two_shards_by_every_spin_policy() {
    for spin in [Spin::Park, Spin::For(Duration::from_micros(50)), Spin::Always] {
        for shards in [1, 2] {
            let server = serve(shards, spin, Settings::default());
            let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
            for round in 0..20u8 {
                for client in &mut clients {
                    client.send(&[b'e', round]);
                }
                for client in &mut clients {
                    assert_eq!(client.receive(), [b'e', round]);
                    assert_eq!(client.ask(&[b't', round]), [b't', round]);
                }
            }
            let open: Vec<_> = server
                .runtime
                .counters()
                .iter()
                .map(|counters| counters.snapshot().connections_open)
                .collect();
            assert_eq!(open, vec![8 / shards as u64; shards], "connections are spread evenly");
            server.stop();
        }
    }
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let server = serve_one();
    let mut client = server.connect();
    let bytes = framed(b"ebyte by byte");
    for _ in 0..3 {
        for byte in &bytes {
            client.stream.write_all(&[*byte]).expect("the server reads");
        }
        assert_eq!(client.receive(), b"ebyte by byte");
    }
    assert_eq!(client.ask(b""), b"", "an empty frame is a frame");
    server.stop();
}

#[test]
fn frames_of_every_size_cross_buffers_and_modes() {
    let server = serve_one();
    let mut client = server.connect();
    let sizes =
        [1, 100, 16_379, 16_380, 16_381, 20_000, 32_767, 32_768, 70_000, 100, 300_000, 5, 1 << 20, 1, 1, 1];
    for (index, size) in sizes.iter().cycle().take(64).enumerate() {
        let frame = patterned(b'e', *size);
        assert!(client.ask(&frame) == frame, "frame {index} of {size} bytes");
    }
    // The same, all under way at once.
    let mut writer = client.stream.try_clone().expect("a descriptor");
    let all: Vec<u8> = sizes.iter().flat_map(|size| framed(&patterned(b'e', *size))).collect();
    let thread =
        std::thread::spawn(move || (0..4).for_each(|_| writer.write_all(&all).expect("the server reads")));
    for (index, size) in sizes.iter().cycle().take(64).enumerate() {
        assert!(client.receive() == patterned(b'e', *size), "frame {index} of {size} bytes");
    }
    thread.join().expect("wrote");
    server.wait_for("request memory", |s| s.request_memory_bytes, |bytes| bytes == 0);
    server.stop();
}

#[test]
fn twenty_mebibytes_are_a_frame_like_any_other() {
    let server = serve_one();
    let mut client = server.connect();
    let frame = patterned(b'e', 20 << 20);
    let mut writer = client.stream.try_clone().expect("a descriptor");
    let bytes = framed(&frame);
    let thread =
        std::thread::spawn(move || (0..2).for_each(|_| writer.write_all(&bytes).expect("the server reads")));
    for _ in 0..2 {
        assert!(client.receive() == frame);
    }
    thread.join().expect("wrote");
    server.stop();
}

#[test]
fn a_thousand_answers_given_backwards_leave_in_request_order() {
    let server = serve_one();
    let mut client = server.connect();
    let request = |order: u8, number: u16| [&[order], number.to_be_bytes().as_slice()].concat();
    let mut all: Vec<u8> = (0..999u16).flat_map(|number| framed(&request(b'h', number))).collect();
    all.extend(framed(&request(b'r', 999)));
    client.stream.write_all(&all).expect("the server reads");
    for number in 0..999u16 {
        assert_eq!(client.receive(), request(b'h', number));
    }
    assert_eq!(client.receive(), request(b'r', 999));
    server.stop();
}

#[test]
fn a_skipped_answer_leaves_no_gap() {
    let server = serve_one();
    let mut client = server.connect();
    for frame in [b"s1", b"e2", b"s3", b"e4"] {
        client.send(frame);
    }
    assert_eq!((client.receive(), client.receive()), (b"e2".to_vec(), b"e4".to_vec()));
    server.stop();
}

#[test]
fn frames_that_cannot_be_close_the_connection_after_the_answers_before() {
    let server = serve_one();
    for length in [-1i32, i32::MIN, (100 << 20) + 1, i32::MAX] {
        let mut client = server.connect();
        let bytes = [framed(b"ebefore"), length.to_be_bytes().to_vec()].concat();
        client.stream.write_all(&bytes).expect("the server reads");
        assert_eq!(client.receive(), b"ebefore");
        client.expect_closed();
    }
    server.wait_for("frame errors", |s| s.frame_errors_total, |count| count == 4);
    assert_eq!(server.total(|s| s.request_memory_bytes), 0, "no memory was taken for them");
    server.stop();
}
