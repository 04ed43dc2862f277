//! Buffers: cursors, growth, reuse.

use proptest::prelude::*;

use crate::runtime::{Buffer, Buffers, LARGE_BUFFER, SMALL_BUFFER};

fn fill(buffer: &mut Buffer, byte: u8, count: usize) {
    buffer.space_mut()[..count].fill(byte);
    buffer.filled(count);
}

#[test]
fn what_is_read_is_unread_until_consumed() {
    let mut buffer = Buffers::default().take();
    assert!(buffer.is_empty());
    assert_eq!(buffer.append(b"GET / HTTP/1.1"), 14);
    buffer.consume(4);
    assert_eq!(buffer.unread(), b"/ HTTP/1.1");
    buffer.consume(10);
    assert!(buffer.is_empty());
    assert_eq!(buffer.space_mut().len(), SMALL_BUFFER);
}

#[test]
fn a_full_buffer_has_no_space_until_something_is_consumed() {
    let mut buffer = Buffers::default().take();
    fill(&mut buffer, 1, SMALL_BUFFER);
    assert!(buffer.is_full());
    assert!(buffer.space_mut().is_empty());
    buffer.consume(10);
    assert_eq!(buffer.space_mut().len(), 10);
    assert_eq!(buffer.len(), SMALL_BUFFER - 10);
}

#[test]
fn growth_keeps_what_is_unread_and_stops_at_the_maximum() {
    let buffers = Buffers::default();
    let mut buffer = buffers.take();
    fill(&mut buffer, 1, SMALL_BUFFER - 1);
    fill(&mut buffer, 2, 1);
    buffer.consume(SMALL_BUFFER - 2);
    assert!(buffer.grow(SMALL_BUFFER + 100));
    assert_eq!((buffer.unread(), buffer.capacity()), (&[1, 2][..], SMALL_BUFFER + 100));
    assert!(!buffer.grow(SMALL_BUFFER + 100));
    assert_eq!(buffers.kept(), (1, 0), "the one it grew out of is kept");
    drop(buffer);
    assert_eq!(buffers.kept(), (1, 0), "one of no usual length is not");
}

#[test]
fn a_buffer_comes_back_empty_and_not_more_than_so_many() {
    let buffers = Buffers::default();
    let mut first = buffers.take();
    first.append(b"secret");
    drop(first);
    assert!(buffers.take().is_empty());
    drop((0..1000).map(|_| buffers.take()).collect::<Vec<_>>());
    drop((0..1000).map(|_| buffers.take_large()).collect::<Vec<_>>());
    assert_eq!(buffers.kept(), (256, 32));
    assert_eq!(buffers.take_large().capacity(), LARGE_BUFFER);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Consume(usize),
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..5000).prop_map(Step::Append),
        (0usize..5000).prop_map(Step::Consume),
        Just(Step::Grow),
    ]
}

proptest! {
    #[test]
    fn a_buffer_is_a_queue_of_bytes(steps in prop::collection::vec(step(), 1..60)) {
        let mut buffer = Buffers::default().take();
        let mut model = Vec::new();
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let count = buffer.append(&bytes);
                    let free = buffer.capacity() - model.len();
                    prop_assert!(count == bytes.len() || count > 0 || free == 0);
                    model.extend_from_slice(&bytes[..count]);
                }
                Step::Consume(count) => {
                    let count = count.min(model.len());
                    buffer.consume(count);
                    model.drain(..count);
                }
                Step::Grow => {
                    let capacity = buffer.capacity();
                    prop_assert_eq!(buffer.grow(LARGE_BUFFER), capacity < LARGE_BUFFER);
                }
            }
            prop_assert_eq!(buffer.unread(), &model[..]);
        }
    }
}
