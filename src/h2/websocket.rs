//! What a WebSocket over HTTP/2 leaves out and one over HTTP/1.1 needs: the client's key and the server's proof (RFC 6455
//! §4). Where River's client or server speaks the one and not the other, it is River that makes it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What the server has to append to the key before it hashes it (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key of a handshake in River's name.
#[derive(Debug)]
pub(super) struct Key(String);

impl Key {
    /// A key of 16 random bytes.
    ///
    /// # Errors
    ///
    /// The system has no random bytes.
    pub(super) fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce)?;
        Ok(Self(base64(&nonce)))
    }

    /// The value of `Sec-WebSocket-Key`.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether `accept` proves that who sent it has understood the key.
    pub(super) fn accepts(&self, accept: &[u8]) -> bool {
        proof(self.0.as_bytes()).as_bytes() == accept
    }
}

/// The value of `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub(super) fn proof(key: &[u8]) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    base64(hash.as_ref())
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| group.get(index).copied().map_or(0, u32::from);
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            let letter = ALPHABET.get(index).copied().map_or('=', char::from);
            text.push(if digit <= group.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn a_key_is_proved_as_in_rfc_6455() {
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        assert!(key.accepts(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!key.accepts(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOO=") && !key.accepts(b""));
        assert_ne!(Key::random().unwrap().as_bytes(), Key::random().unwrap().as_bytes());
    }
}
