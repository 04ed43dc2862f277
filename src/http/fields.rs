//! The fields of a head and what River knows of them.

use super::span::Span;

/// A field line of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as received; a token.
    pub name: Span,
    /// The value without the blanks around it; it may be empty and may hold bytes from 0x80 on.
    pub value: Span,
    /// Which field it is.
    pub known: Known,
    /// Whether it is not to be forwarded: it is hop-by-hop, `Connection` names it, or it is one that River has the say
    /// in, written with `_` for `-`.
    pub drop: bool,
}

macro_rules! known {
    ($($length:literal: $($variant:ident = $name:literal),+;)+) => {
        /// The fields that a proxy has to tell apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other.
            Other,
            $($(#[doc = concat!("`", $name, "`.")] $variant,)+)+
        }

        impl Known {
            /// Which field `name`, a token, is; letters count as the same in either case.
            #[inline]
            pub fn of(name: &[u8]) -> Self {
                match name.len() {
                    $($length => {
                        let name = folded::<$length>(name);
                        $(if name == const { folded::<$length>($name.as_bytes()) } {
                            return Self::$variant;
                        })+
                        Self::Other
                    })+
                    _ => Self::Other,
                }
            }

            /// All but `Other`, with their names in lower case.
            #[cfg(test)]
            pub(super) const ALL: &[(&str, usize, Self)] = &[$($(($name, $length, Self::$variant)),+),+];
        }
    };
}

known! {
    2: Te = "te";
    3: Via = "via";
    4: Host = "host", Date = "date";
    6: Cookie = "cookie", Server = "server", Expect = "expect";
    7: Upgrade = "upgrade", Trailer = "trailer";
    9: Forwarded = "forwarded", XRealIp = "x-real-ip";
    10: Connection = "connection", SetCookie = "set-cookie", KeepAlive = "keep-alive";
    12: ContentType = "content-type", MaxForwards = "max-forwards";
    13: CacheControl = "cache-control", Authorization = "authorization";
    14: ContentLength = "content-length";
    15: XForwardedFor = "x-forwarded-for";
    16: ContentEncoding = "content-encoding", XForwardedHost = "x-forwarded-host",
        ProxyConnection = "proxy-connection", XForwardedPort = "x-forwarded-port";
    17: TransferEncoding = "transfer-encoding", XForwardedProto = "x-forwarded-proto";
    18: ProxyAuthenticate = "proxy-authenticate";
    19: ProxyAuthorization = "proxy-authorization";
}

impl Known {
    /// Whether it concerns one connection only (RFC 9110 §7.6.1, RFC 2616 §13.5.1).
    ///
    /// `Trailer` is not: it announces trailers, and these are forwarded. `Proxy-Authenticate` and
    /// `Proxy-Authorization` are, although a proxy may relay them (RFC 9110 §11.7): River asks no client for
    /// credentials on behalf of another proxy, and credentials meant for one must not leak to a server.
    #[inline]
    pub(super) const fn is_hop_by_hop(self) -> bool {
        self.bit() & HOP_BY_HOP != 0
    }

    /// Whether a `Connection` option of this name is ignored.
    ///
    /// A client must not name a field that is meant for all recipients (RFC 9110 §7.6.1). One that does wants a
    /// proxy to remove what the server behind it relies on: who the client is, what it may do, where a message ends.
    pub(super) const fn is_end_to_end(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::ContentType
                | Self::ContentEncoding
                | Self::CacheControl
                | Self::Authorization
                | Self::Cookie
                | Self::SetCookie
                | Self::Expect
                | Self::MaxForwards
                | Self::Date
                | Self::Via
                | Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XRealIp
        )
    }

    /// Its place in a set of known fields.
    #[inline]
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Whether `name`, with every `_` read as `-`, is a field of framing or one that says who the client is.
///
/// Servers that hand fields on as variables (CGI, RFC 3875 §4.1.18; WSGI) cannot tell the two apart, so this would be a
/// way around what River decides about these fields.
#[inline]
fn is_alias(name: &[u8]) -> bool {
    matches!(name.len(), 9 | 14..=17) && name.contains(&b'_') && reads_as_own(name)
}

#[cold]
fn reads_as_own(name: &[u8]) -> bool {
    let mut hyphened = [0; 17];
    let Some(hyphened) = hyphened.get_mut(..name.len()) else { return false };
    for (to, from) in hyphened.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    matches!(
        Known::of(hyphened),
        Known::ContentLength
            | Known::TransferEncoding
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XRealIp
    )
}

/// The bytes of a name of `N`, 2 to 24, with the bit set that tells small letters from capitals, in words that may overlap.
///
/// Two names of one length are the same, letters in either case, where their words are. The bit changes no hyphen, and
/// makes no other byte of a token one or a letter.
#[inline]
const fn folded<const N: usize>(name: &[u8]) -> [u64; 3] {
    const CASE: u64 = u64::MAX / 0xff * 0x20;
    let (first, middle, last) = match N {
        0..4 => (word::<2>(name, 0), 0, word::<2>(name, N.saturating_sub(2))),
        4..8 => (word::<4>(name, 0), 0, word::<4>(name, N - 4)),
        8..=16 => (word::<8>(name, 0), 0, word::<8>(name, N - 8)),
        _ => (word::<8>(name, 0), word::<8>(name, 8), word::<8>(name, N - 8)),
    };
    [first | CASE, middle | CASE, last | CASE]
}

/// `N` bytes of `name` from `at` on, at most 8; none where there are fewer.
#[inline]
const fn word<const N: usize>(name: &[u8], at: usize) -> u64 {
    let Some((_, rest)) = name.split_at_checked(at) else { return 0 };
    let Some(bytes) = rest.first_chunk::<N>() else { return 0 };
    let mut word = [0; 8];
    let mut nth = 0;
    while nth < N {
        word[nth] = bytes[nth];
        nth += 1;
    }
    u64::from_le_bytes(word)
}

const HOP_BY_HOP: u32 = Known::Connection.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyConnection.bit()
    | Known::Te.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit()
    | Known::ProxyAuthenticate.bit()
    | Known::ProxyAuthorization.bit();

/// Which known fields a head has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    once: u32,
    again: u32,
}

impl Seen {
    /// Takes note of one more.
    #[inline]
    pub(super) const fn note(&mut self, known: Known) {
        self.again |= self.once & known.bit();
        self.once |= known.bit();
    }

    /// Whether it has at least one.
    #[inline]
    pub(super) const fn has(self, known: Known) -> bool {
        self.once & known.bit() != 0
    }

    /// Whether it has more than one.
    #[inline]
    pub(super) const fn repeats(self, known: Known) -> bool {
        self.again & known.bit() != 0
    }
}

/// Whether a field called `name` is not to be forwarded, whatever else the head says.
#[inline]
pub(super) fn drops(name: &[u8], known: Known) -> bool {
    known.is_hop_by_hop() || (known == Known::Other && is_alias(name))
}

/// The values of the fields of one kind, in order.
pub(super) fn values<'a>(fields: &[Field], known: Known, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.known == known).map(|field| field.value.of(buf))
}
