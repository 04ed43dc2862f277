//! Two sessions that talk to each other in memory.

use std::io::IoSlice;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use super::*;
use crate::runtime::{Buffers, LARGE_BUFFER};
use crate::tls::session::Session;

/// Gives `to` what `from` has to send, `step` bytes at a time, each piece with its own receive; `spoil` may change it.
fn deliver(
    from: &mut Session,
    to: &mut Session,
    step: usize,
    mut spoil: impl FnMut(&mut [u8]),
) -> Result<(), rustls::Error> {
    let mut bytes = from.outgoing.unread().to_vec();
    from.outgoing.clear();
    spoil(&mut bytes);
    for piece in bytes.chunks(step) {
        let mut piece = piece;
        while !piece.is_empty() {
            let space = to.space()?;
            let count = space.len().min(piece.len());
            space[..count].copy_from_slice(&piece[..count]);
            to.filled(count);
            piece = &piece[count..];
            if to.common().is_handshaking() {
                to.shake()?;
            } else {
                to.absorb();
            }
        }
    }
    Ok(())
}

fn new_pair(
    signed: &Signed,
    versions: &[&'static SupportedProtocolVersion],
    buffers: &Buffers,
) -> (Session, Session) {
    let name = ServerName::try_from("river.test").unwrap();
    let client = UnbufferedClientConnection::new(Arc::new(signed.client(versions)), name).unwrap();
    let server = UnbufferedServerConnection::new(Arc::new(signed.server(versions))).unwrap();
    (Session::client(client, buffers), Session::server(server, buffers, buffers.empty()))
}

/// A client and a server that have met.
fn pair(
    signed: &Signed,
    versions: &[&'static SupportedProtocolVersion],
    buffers: &Buffers,
) -> (Session, Session) {
    let (mut client, mut server) = new_pair(signed, versions, buffers);
    while !(client.shake().unwrap() && server.shake().unwrap()) {
        client.absorb();
        server.absorb();
        deliver(&mut client, &mut server, usize::MAX, |_| {}).unwrap();
        deliver(&mut server, &mut client, usize::MAX, |_| {}).unwrap();
    }
    server.absorb();
    deliver(&mut server, &mut client, usize::MAX, |_| {}).unwrap();
    (client, server)
}

/// The lengths of the records that wait to be sent.
fn records(session: &Session) -> Vec<usize> {
    let mut bytes = session.outgoing.unread();
    let mut found = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        found.push(length);
        bytes = &rest[length..];
    }
    found
}

#[test]
fn short_slices_share_a_record_and_long_ones_are_not_copied_together() {
    let buffers = Buffers::default();
    let signed = signed("river.test");
    let (mut client, mut server) = pair(&signed, &[&rustls::version::TLS13], &buffers);
    // The content's type and the tag.
    let more = 17;
    for (slices, expected) in [
        (vec![300], vec![300]),
        (vec![300, 2_000], vec![2_300]),
        (vec![300, 0, 9, 4_095], vec![4_404]),
        (vec![300, 5_000], vec![5_300]),
        (vec![8_000, 300], vec![8_000, 300]),
        (vec![16_384], vec![16_384]),
        (vec![20_000], vec![16_384, 3_616]),
        (vec![61_440, 10], vec![16_384, 16_384, 16_384, 12_288]),
    ] {
        let all = noise(slices.iter().sum());
        let mut rest = all.as_slice();
        let mut parts = Vec::new();
        for length in slices {
            let (part, behind) = rest.split_at(length);
            parts.push(IoSlice::new(part));
            rest = behind;
        }
        let count = server.write(&parts, usize::MAX).unwrap();
        let expected: Vec<usize> = expected.iter().map(|length| length + more).collect();
        assert_eq!(records(&server), expected);
        assert!(server.outgoing.capacity() <= LARGE_BUFFER);
        let mut got = vec![0; count + 1];
        let mut filled = 0;
        let bytes = server.outgoing.unread().to_vec();
        server.outgoing.clear();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let space = client.space().unwrap();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            client.filled(count);
            rest = &rest[count..];
            while !client.is_starved() {
                filled += client.read(&mut got[filled..]).unwrap();
            }
        }
        assert!(filled == count && got[..count] == all[..count], "{filled} of {count}");
    }
}

#[test]
fn a_write_takes_no_more_than_it_is_told_to() {
    let signed = signed("river.test");
    let (_, mut server) = pair(&signed, &[&rustls::version::TLS12], &Buffers::default());
    let bytes = noise(100_000);
    assert_eq!(server.write(&[IoSlice::new(&bytes)], 16 << 10).unwrap(), 16 << 10);
    assert_eq!(
        server.write(&[IoSlice::new(&bytes[..100]), IoSlice::new(&bytes[100..])], 1_000).unwrap(),
        1_000
    );
    assert_eq!(server.write(&[IoSlice::new(&bytes)], usize::MAX).unwrap(), 60 << 10);
}

#[test]
fn handshakes_go_well_however_their_bytes_are_cut() {
    let signed = signed("river.test");
    for version in BOTH {
        for step in [1, 5, 100, 1_000] {
            let (mut client, mut server) = new_pair(&signed, &[version], &Buffers::default());
            while !(client.shake().unwrap() && server.shake().unwrap()) {
                client.absorb();
                server.absorb();
                deliver(&mut client, &mut server, step, |_| {}).unwrap();
                deliver(&mut server, &mut client, step, |_| {}).unwrap();
            }
        }
    }
}

#[test]
fn what_was_received_when_a_write_begins_is_kept_for_the_reader() {
    let signed = signed("river.test");
    let (mut client, mut server) = pair(&signed, BOTH, &Buffers::default());
    let bytes = noise(60_000);
    assert_eq!(client.write(&[IoSlice::new(&bytes)], usize::MAX).unwrap(), bytes.len());
    let sent = client.outgoing.unread().to_vec();
    client.outgoing.clear();
    // A small buffer's worth makes it take a large one the next time.
    let mut rest = sent.as_slice();
    let mut got = Vec::new();
    let mut space = [0; 100];
    while !rest.is_empty() {
        let into = server.space().unwrap();
        let count = into.len().min(rest.len());
        into[..count].copy_from_slice(&rest[..count]);
        server.filled(count);
        rest = &rest[count..];
        assert_eq!(server.write(&[IoSlice::new(b"between")], usize::MAX).unwrap(), 7);
        while !server.is_starved() {
            let count = server.read(&mut space).unwrap();
            got.extend_from_slice(&space[..count]);
        }
    }
    assert!(got == bytes);
}

#[test]
fn whatever_comes_is_data_that_was_sent_or_an_error() {
    let signed = signed("river.test");
    let mut random = fastrand::Rng::with_seed(4);
    let (mut refused, mut kept) = (0, 0);
    for round in 0..300 {
        let version = BOTH[round % 2];
        let buffers = Buffers::default();
        // Every other time the handshake itself is spoiled.
        if round % 4 < 2 {
            let (mut client, mut server) = new_pair(&signed, &[version], &buffers);
            let flight = random.usize(0..4);
            let outcome = (0..4).try_for_each(|at| {
                client.shake()?;
                client.absorb();
                server.shake()?;
                server.absorb();
                let mut spoil = |bytes: &mut [u8]| {
                    if at == flight && !bytes.is_empty() {
                        let place = random.usize(..bytes.len());
                        bytes[place] ^= 1 << random.u8(..8);
                    }
                };
                deliver(&mut client, &mut server, usize::MAX, &mut spoil)?;
                deliver(&mut server, &mut client, usize::MAX, &mut spoil)
            });
            if outcome.is_err() {
                refused += 1;
            }
            continue;
        }
        let (mut client, mut server) = pair(&signed, &[version], &buffers);
        let bytes = noise(random.usize(1..50_000));
        let count = client.write(&[IoSlice::new(&bytes)], usize::MAX).unwrap();
        let spoiled = random.bool();
        let step = random.usize(1..20_000);
        let outcome = deliver(&mut client, &mut server, step, |bytes| {
            if spoiled {
                for _ in 0..random.usize(1..4) {
                    let place = random.usize(..bytes.len());
                    bytes[place] = random.u8(..);
                }
            }
        });
        let mut got = vec![0; count + 1];
        let mut filled = 0;
        let end = outcome.and_then(|()| {
            loop {
                match server.read(&mut got[filled..]) {
                    Ok(0) => break Ok(()),
                    Ok(more) => filled += more,
                    Err(error) => break Err(error),
                }
            }
        });
        assert!(filled <= count && got[..filled] == bytes[..filled], "what came was never sent");
        match end {
            Ok(()) if !spoiled => {
                assert_eq!(filled, count);
                kept += 1;
            }
            // A length that was made longer is waited for.
            Ok(()) => {}
            Err(_) => {
                assert!(spoiled);
                refused += 1;
            }
        }
    }
    assert!(refused > 50 && kept > 50, "{refused} were refused and {kept} were whole");
}
