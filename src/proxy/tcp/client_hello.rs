//! The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), read as it arrives and without ending TLS.
//!
//! Nothing is decrypted, for a ClientHello goes in the clear. With Encrypted ClientHello the name is the public one.

/// The most bytes that are looked at, headers of records included.
pub const MAX_CLIENT_HELLO: usize = 16 << 10;

/// The longest name of a host, in bytes.
const MAX_NAME: usize = 255;

/// The header of a record: its type, a version, its length.
const RECORD_HEADER: usize = 5;

/// The header of a handshake message: its type, its length.
const MESSAGE_HEADER: usize = 4;

/// The most bytes of one record (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;

/// The content type of records with handshake messages.
const HANDSHAKE: u8 = 22;

/// The type of the handshake message.
const CLIENT_HELLO: u8 = 1;

/// The extension that has the name, and the type of names that is one of a host.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the begin of a connection says of the server that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The server of this name, in lower case and without a dot at the end.
    Named(String),
    /// A ClientHello that is whole and has no name.
    Nameless,
    /// Something else than TLS.
    NotTls,
    /// TLS that is broken at its begin, or goes on for longer than [`MAX_CLIENT_HELLO`]; why.
    Malformed(&'static str),
}

/// Reads the begin of a connection, piece by piece. Every byte is looked at once, however small the pieces are.
#[derive(Debug, Default)]
pub struct ClientHello {
    /// The header of the record at hand, as far as it has come.
    header: [u8; RECORD_HEADER],
    /// How much of it that is.
    headed: usize,
    /// What is still to come of the record at hand.
    left: usize,
    /// The handshake message, as far as it has come, without the headers of records.
    message: Vec<u8>,
    /// How many bytes were looked at.
    seen: usize,
}

impl ClientHello {
    /// Takes the next bytes of the connection; nothing while it takes more of them to tell. What comes behind a
    /// ClientHello does not matter. After an answer there is nothing to be fed any more.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Option<Hello> {
        loop {
            if let Some(hello) = self.finished() {
                return Some(hello);
            }
            let next = *bytes.first()?;
            if self.seen == 0 && next != HANDSHAKE {
                return Some(Hello::NotTls);
            }
            if self.seen >= MAX_CLIENT_HELLO {
                return Some(Hello::Malformed("the ClientHello is too long"));
            }
            if self.left > 0 {
                let most = self.left.min(MAX_CLIENT_HELLO - self.seen);
                let (piece, rest) = bytes.split_at(most.min(bytes.len()));
                self.message.extend_from_slice(piece);
                self.left -= piece.len();
                self.seen += piece.len();
                bytes = rest;
                continue;
            }
            if let Some(place) = self.header.get_mut(self.headed) {
                *place = next;
            }
            self.headed += 1;
            self.seen += 1;
            bytes = bytes.get(1..).unwrap_or_default();
            if self.headed == RECORD_HEADER {
                self.headed = 0;
                match begin_record(self.header) {
                    Ok(length) => self.left = length,
                    Err(why) => return Some(Hello::Malformed(why)),
                }
            }
        }
    }

    /// What the message says, once it is whole or can never be.
    fn finished(&self) -> Option<Hello> {
        let [kind, long @ ..] = *self.message.first_chunk::<MESSAGE_HEADER>()?;
        if kind != CLIENT_HELLO {
            return Some(Hello::Malformed("the first handshake message is no ClientHello"));
        }
        let [a, b, c] = long;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MAX_CLIENT_HELLO - RECORD_HEADER - MESSAGE_HEADER {
            return Some(Hello::Malformed("the ClientHello is too long"));
        }
        let body = self.message.get(MESSAGE_HEADER..MESSAGE_HEADER + length)?;
        Some(match server_name(body) {
            Ok(Some(name)) => Hello::Named(name),
            Ok(None) => Hello::Nameless,
            Err(why) => Hello::Malformed(why),
        })
    }
}

/// The length of the record whose header this is. A record without a byte of a handshake message is not allowed
/// (RFC 8446 §5.1).
fn begin_record([kind, major, _, high, low]: [u8; RECORD_HEADER]) -> Result<usize, &'static str> {
    let length = usize::from(u16::from_be_bytes([high, low]));
    match (kind, major, length) {
        (HANDSHAKE, 3, 1..=MAX_RECORD) => Ok(length),
        (HANDSHAKE, 3, _) => Err("the length of a record is wrong"),
        (HANDSHAKE, ..) => Err("the version of a record is wrong"),
        _ => Err("a record within the ClientHello is of another type"),
    }
}

/// Takes a ClientHello apart.
fn server_name(body: &[u8]) -> Result<Option<String>, &'static str> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // legacy_version, random
    body.short_vector()?; // legacy_session_id
    body.vector()?; // cipher_suites
    body.short_vector()?; // legacy_compression_methods
    if body.is_empty() {
        // TLS 1.2 has it optional (RFC 5246 §7.4.1.2).
        return Ok(None);
    }
    let mut extensions = body.vector()?;
    if !body.is_empty() {
        return Err("the ClientHello goes on behind its extensions");
    }
    let mut name = None;
    let mut seen = false;
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.vector()?;
        if kind != SERVER_NAME {
            continue;
        }
        // The server might read the other one.
        if std::mem::replace(&mut seen, true) {
            return Err("the ClientHello names the server twice");
        }
        name = host_name(content)?;
    }
    Ok(name)
}

/// The name of a host in the extension.
fn host_name(mut content: Reader<'_>) -> Result<Option<String>, &'static str> {
    let mut names = content.vector()?;
    if !content.is_empty() || names.is_empty() {
        return Err(BROKEN);
    }
    let mut found = None;
    while !names.is_empty() {
        let kind = names.byte()?;
        let name = names.vector()?;
        if kind != HOST_NAME {
            continue;
        }
        if found.is_some() {
            return Err("the ClientHello names the server twice");
        }
        found = Some(normal(name.0).ok_or("the server name is no name of a host")?);
    }
    Ok(found)
}

/// A name as names are compared: in lower case, without the dot at its end that stands for the root. No label of it is
/// empty.
fn normal(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let has_hole = name.split(|&byte| byte == b'.').any(<[u8]>::is_empty);
    if has_hole || name.len() > MAX_NAME || !name.iter().all(good) {
        return None;
    }
    Some(String::from_utf8_lossy(name).to_ascii_lowercase())
}

const BROKEN: &str = "the ClientHello is broken";

/// Reads the fields of a structure one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.take(1)?.first().copied().ok_or(BROKEN)
    }

    fn number(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// What one byte says the length of.
    fn short_vector(&mut self) -> Result<Self, &'static str> {
        let length = self.byte()?.into();
        self.take(length).map(Reader)
    }

    /// What two bytes say the length of.
    fn vector(&mut self) -> Result<Self, &'static str> {
        let length = self.number()?.into();
        self.take(length).map(Reader)
    }
}

#[cfg(test)]
mod tests;
