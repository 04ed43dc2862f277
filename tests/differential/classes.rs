//! What is sent, in classes, each with the reason why the three do not agree on it.

/// Requests that are odd in one way.
#[derive(Debug)]
pub(crate) struct Class {
    /// What they have in common.
    pub(crate) name: &'static str,
    /// Why the proxies differ, and why River does what it does.
    pub(crate) reason: &'static str,
    /// The requests.
    pub(crate) requests: &'static [Sent],
}

/// Bytes that are sent to each proxy on a connection of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// What is odd about them.
    pub(crate) name: &'static str,
    /// The bytes.
    pub(crate) bytes: &'static [u8],
}

const fn sent(name: &'static str, bytes: &'static [u8]) -> Sent {
    Sent { name, bytes }
}

/// Everything that is sent.
pub(crate) const CLASSES: &[Class] = &[
    Class {
        name: "Content-Length and Transfer-Encoding",
        reason: "RFC 9112 §6.1 and §6.3 let a proxy drop the length and go by the chunks, and ask it to take such a request for an
attempt at smuggling. HAProxy drops the length, which is safe as long as it is the only reader in front of the server.
River and nginx refuse: nobody honest sends both, and whoever stood in front of River may have gone by the length. In
HTTP/1.0 there are no chunks (§6.1: \"treat the message as if the framing is faulty\"); HAProxy passes them on as such.",
        requests: &[
            sent("both, the length first", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            sent("both, the chunks first", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            sent("a request behind the last chunk, within the length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 39\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ],
    },
    Class {
        name: "Content-Length",
        reason: "Equal lengths, repeated or as a list, may be refused or made one (RFC 9112 §6.3). HAProxy makes them one; River and
nginx refuse, since the next recipient may see a different list. Leading zeros are digits like others (RFC 9110 §8.6):
all three take them, River and HAProxy pass them on as they came, nginx writes the number anew. On what is no number at
all the three agree.",
        requests: &[
            sent("twice, equal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            sent("twice, different", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            sent("a list of equals", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
            sent("with a plus sign", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
            sent("negative", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello"),
            sent("hexadecimal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello"),
            sent("with leading zeros", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello"),
            sent("empty", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello"),
            sent("beyond 64 bits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
            sent("with a space before the colon", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello"),
            sent("behind a vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\x0b5\r\n\r\nhello"),
            sent("of a GET", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        ],
    },
    Class {
        name: "Transfer-Encoding",
        reason: "All three take `chunked` and nothing else, and let nothing else through; they differ in what they call it. River says
501 for a coding that it does not know (RFC 9112 §6.1) and 400 for a field that is wrong whatever its codings mean:
`chunked` twice, an empty element, no token. nginx says 501 for everything but the one word, HAProxy 422 where `chunked`
comes last. `Transfer_Encoding` is another field, but a server that turns names into variables may read it as this
one: River and nginx leave it out, HAProxy passes it on. Where nginx has the whole body by the time it connects, it sends
a length instead of chunks. What `Connection` names HAProxy does not remove, River and nginx keep the framing and drop
`Connection`.",
        requests: &[
            sent("in mixed case", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHuNkEd\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            sent("twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            sent("chunked, chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
            sent("identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
            sent("identity, then chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
            sent("gzip, chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            sent("xchunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
            sent("an empty element", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"),
            sent("with a space before the colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
            sent("behind a vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
            sent("quoted", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
            sent("with an underscore", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello"),
            sent("named by Connection", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ],
    },
    Class {
        name: "Chunks and trailers",
        reason: "River accepts the grammar of RFC 9112 §7.1 and no other: no bare LF, no white space behind a size, trailers that are
fields. nginx and HAProxy take a bare LF for a line's end and skip white space; what they send on is in good order, so the
danger is on their other side: a proxy in front of them that reads the same bytes otherwise (the TERM.EXT and EXT.TERM
classes of smuggling begin with a bare LF in a chunk extension). A bare LF behind the data is the same. Where all bytes
come at once, River has sent the head by the time it finds the fault, and ends the connection to the server there: the
server has seen the begin of a request, never a whole one. nginx and HAProxy look at the first bytes of the body before
they send the head. Trailers: nginx drops them all, HAProxy passes on even `Content-Length`, River all but those that
RFC 9110 §6.5.1 forbids.",
        requests: &[
            sent("an extension", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
            sent("a bare LF in an extension", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n"),
            sent("a space behind the size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n"),
            sent("a size with 0x", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
            sent("a size beyond 64 bits", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
            sent("a bare LF behind the size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
            sent("no CRLF behind the data", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n"),
            sent("a bare LF behind the data", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"),
            sent("a trailer", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
            sent("a trailer that may not be one", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
            sent("a trailer that is no field", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno colon\r\n\r\n"),
        ],
    },
    Class {
        name: "Lines",
        reason: "A recipient may take a bare LF for a line's end (RFC 9112 §2.2), and nginx and HAProxy do; nginx does so behind CR too,
which makes CR CR LF one. River does not: two parties that disagree about where a line ends disagree about what the
fields are, and no client in use sends one. A folded line may be refused or unfolded (§5.2): HAProxy unfolds it. One
empty line before a request is passed over by all, as §2.2 asks; of more River says 400, since no old client sent more.",
        requests: &[
            sent("bare LF throughout", b"GET / HTTP/1.1\nHost: a\n\n"),
            sent("a bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
            sent("a bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n"),
            sent("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"),
            sent("a folded line", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
            sent("white space before the first field", b"GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"),
            sent("an empty line before the request", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("three empty lines before the request", b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ],
    },
    Class {
        name: "Fields",
        reason: "nginx drops a field with a name that it finds invalid (an underscore counts), takes a line without a colon for an empty
field, and lets control characters through; HAProxy lets those through and NUL too. RFC 9110 §5.5 calls NUL, CR and LF
dangerous and other controls invalid; River refuses them all, and refuses names that are no tokens instead of dropping
them, so that a client learns of it. Names with an underscore River passes on, but for those that a server could take for
framing or for `X-Forwarded-For` and its kind. What `Connection` names is removed by River alone (RFC 9110 §7.6.1, a
MUST), HAProxy leaves `Keep-Alive` and `Proxy-Connection` in too. `h2c` River never passes on: a server that took it up
would be spoken to past the proxy. An expectation that River does not know is answered with 417 (§10.1.1); nginx drops
it and HAProxy leaves it to the server. Whatever a client says of its own address is replaced by River unasked; with the
peers that is a setting. River keeps the names' case, HAProxy writes them small, nginx writes `Host` its own way.",
        requests: &[
            sent("a line without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
            sent("a field without a name", b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
            sent("a space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n"),
            sent("a delimiter in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX(Y): z\r\n\r\n"),
            sent("an underscore in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n\r\n"),
            sent("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
            sent("a control character in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n"),
            sent("a byte above 127 in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n"),
            sent("names in mixed case", b"GET / HTTP/1.1\r\nhOsT: a\r\nX-mIxEd: y\r\n\r\n"),
            sent("hop-by-hop", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-named\r\nX-Named: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\n\r\n"),
            sent("an unknown expectation", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
            sent("an upgrade to h2c", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
            sent("X-Forwarded-For", b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.2\r\n\r\n"),
        ],
    },
    Class {
        name: "Request lines",
        reason: "RFC 9112 §3 has one space between the words; a server may be lenient about white space, and nginx (spaces) and HAProxy
(spaces and tabs) are. River is not, because lenient parsers differ in which word is the target. nginx still serves
HTTP/0.9 to a client and turns it into HTTP/1.1 without `Host`. A minor version above 1 does not exist; a recipient can
treat it as 1.1 (RFC 9110 §2.5), as nginx and HAProxy do. River answers 505, a deliberate departure: who sends it is
probing. HAProxy even takes HTTP/2.0 in a line. Methods are case-sensitive names that the server judges (§9.1): River and
HAProxy pass `get` on, nginx refuses it. TRACE with `Max-Forwards: 0` ends at the first proxy (§7.6.2): River says 501,
nginx refuses TRACE always, HAProxy passes it on. CONNECT is for proxies that a client chose: River and nginx refuse it.",
        requests: &[
            sent("HTTP/0.9", b"GET /\r\n"),
            sent("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("a space at the end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
            sent("a tab", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            sent("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            sent("the protocol in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
            sent("a method in lower case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("an unknown method", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
            sent("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        ],
    },
    Class {
        name: "Targets and hosts",
        reason: "River takes the characters of RFC 3986 and a few that browsers send, refuses the rest, and passes a path on as it came:
what `..` and `%41` mean is the server's affair, and a proxy that rewrites them hides from the server what it was asked.
nginx resolves the path to choose a location, and so refuses one that leaves the root; it lets a fragment and bytes above
127 through. HAProxy takes targets that are no path at all, and escapes that are none. An absolute target beats `Host`
(RFC 9112 §3.2.2): River makes it so, nginx keeps the client's `Host` (`$http_host`; with `$host` it would not), HAProxy
refuses where the two differ. RFC 9112 §3.2 has every request in HTTP/1.1 without `Host`, with two, or with an invalid
one answered with 400: River does that throughout, nginx lets a comma through, HAProxy lets through all but two that
differ. An HTTP/1.0 request without `Host` gets the name of the server from River, since what River sends is HTTP/1.1.",
        requests: &[
            sent("dots and escapes in the path", b"GET //a/../%2e%2e/%41?b HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("a space in the path", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("a fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("a byte above 127", b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("NUL", b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("an escape that is none", b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("no slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("an absolute target and another Host", b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("userinfo in the target", b"GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("GET *", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("no Host", b"GET / HTTP/1.1\r\n\r\n"),
            sent("no Host in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n"),
            sent("Host twice, equal", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            sent("Host twice, different", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            sent("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
            sent("a path in Host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
            sent("two hosts in Host", b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
        ],
    },
    Class {
        name: "Requests in a row",
        reason: "Here all three agree: answers in order, nothing of a faulty request, nothing behind `Connection: close`. An upgrade is
passed on by River and HAProxy, and not by nginx unless it is told to; none of them takes what follows for a tunnel
before the server has said 101.",
        requests: &[
            sent("two good ones", b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("a good and a faulty one", b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost : a\r\n\r\n"),
            sent("one behind Connection: close", b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("one behind a POST without a length", b"POST /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("one behind an upgrade that is not taken", b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n"),
            sent("HEAD, then GET", b"HEAD /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n"),
        ],
    },
    Class {
        name: "Requests cut short",
        reason: "The client waits, and the proxy's time-out ends it. RFC 9110 §15.5.9 has 408 for that; nginx closes without a word.
HAProxy, once the head has gone to the server, blames the server's silence (504) after the server's time-out, not the
client's. What reached the server is the same: the begin of a request, and the end of the connection.",
        requests: &[
            sent("in the head", b"GET / HTTP/1.1\r\nHost: a\r\n"),
            sent("in a body with a length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"),
            sent("in the chunks", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            sent("in the trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"),
        ],
    },
];
