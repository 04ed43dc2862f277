//! Addresses as they are written: `10.0.0.1:80`, `[::1]:80`, `localhost:80`, `unix:/run/app.sock`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address as written, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written<'a> {
    /// A numeric address.
    Numeric(SocketAddr),
    /// A name to resolve, and a port.
    Name(&'a str, u16),
    /// A Unix socket's path.
    Unix(&'a str),
}

/// What is wrong with an address, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Reads an address without asking anybody. `port` is used in examples of what to write.
pub(super) fn parse(text: &str, port: u16) -> Result<Written<'_>, Mistake> {
    let mistake = |message: &str, help: Option<String>| Mistake { message: message.to_owned(), help };
    let write = |text: String| Some(format!("write {text:?}"));
    if text.is_empty() {
        return Err(mistake("the address is empty", write(format!("127.0.0.1:{port}"))));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        // `unix:///run/app.sock` is how URLs say it; all its slashes mean the root.
        return match path.trim_start_matches('/') {
            "" => Err(mistake("the path of the Unix socket is missing", write("unix:/run/app.sock".into()))),
            rest if path.starts_with("//") => {
                Err(mistake("a Unix socket is written without \"//\"", write(format!("unix:/{rest}"))))
            }
            _ => Ok(Written::Unix(path)),
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return check(address).map(Written::Numeric);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        let help = match scheme {
            "http" if parse(host, port).is_ok() => write(host.to_owned()),
            "http" => write(format!("{host}:80")),
            "https" => {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                let address = if name == host { format!("{host}:443") } else { host.to_owned() };
                Some(format!(
                    "write \"{address}\"; of a server, tls_sni: \"{name}\" beside it has TLS spoken to it"
                ))
            }
            _ => None,
        };
        return Err(mistake("expected an address, not a URL", help));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        let whole = format!("[{address}]:{port}");
        let help = match text.rsplit_once(':').map(|(host, last)| (host.parse::<Ipv6Addr>(), last)) {
            Some((Ok(host), last)) if last.parse::<u16>().is_ok() => {
                Some(format!("write \"[{host}]:{last}\", or {whole:?} if {last} belongs to the address"))
            }
            _ => write(whole),
        };
        return Err(mistake("an IPv6 address stands in brackets", help));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Err(mistake("the port is missing", write(SocketAddr::new(address, port).to_string())));
    }
    if text.contains('/') {
        let help = write(format!("unix:{text}"));
        return Err(mistake("this looks like a path; a Unix socket begins with \"unix:\"", help));
    }
    let Some((host, digits)) = text.rsplit_once(':') else {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(mistake("the host is missing", write(format!("0.0.0.0:{text}"))));
        }
        check_host(text)?;
        return Err(mistake("the port is missing", write(format!("{text}:{port}"))));
    };
    if digits.is_empty() {
        return Err(mistake("the port is missing", write(format!("{text}{port}"))));
    }
    let number = digits.parse::<u16>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(number) = number else {
        return Err(mistake(&format!("{digits:?} is no port: expected 0 to 65535"), None));
    };
    match host {
        "" | "*" => {
            let help = format!("write \"0.0.0.0:{number}\" for IPv4 or \"[::]:{number}\" for IPv6");
            return Err(mistake("the host is missing", Some(help)));
        }
        _ if host.contains(':') => {
            let bare = host.trim_matches(['[', ']']);
            let help = bare.parse::<Ipv6Addr>().is_ok().then(|| format!("write \"[{bare}]:{number}\""));
            return Err(mistake("this is no IPv6 address with a port", help));
        }
        _ => {}
    }
    check_host(host)?;
    Ok(Written::Name(host, number))
}

/// Refuses addresses that no stream socket can have.
fn check(address: SocketAddr) -> Result<SocketAddr, Mistake> {
    let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    if address.ip().is_multicast() || broadcast {
        let message = "a multicast or broadcast address has no connections".to_owned();
        return Err(Mistake { message, help: None });
    }
    if let IpAddr::V6(ip) = address.ip()
        && let Some(ip) = ip.to_ipv4_mapped()
    {
        // River's IPv6 sockets are for IPv6 only, so such a one could not be bound.
        let message = "this is an IPv4 address written as IPv6".to_owned();
        return Err(Mistake { message, help: Some(format!("write \"{ip}:{}\"", address.port())) });
    }
    Ok(address)
}

/// Refuses what is no name of a host (RFC 1123 §2.1), and what was meant to be an IPv4 address.
fn check_host(host: &str) -> Result<(), Mistake> {
    let mistake = |message: String| Err(Mistake { message, help: None });
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if let Some(bad) = host.chars().find(|c| !good(*c)) {
        return mistake(format!("{bad:?} cannot stand in the name of a host"));
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 || labels.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return mistake(format!("{host:?} is no name of a host"));
    }
    if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return mistake(format!("{host:?} is no IPv4 address"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read() {
        let numeric = |text: &str| Ok(Written::Numeric(text.parse().unwrap()));
        assert_eq!(parse("0.0.0.0:80", 80), numeric("0.0.0.0:80"));
        assert_eq!(parse("[::1]:0", 80), numeric("[::1]:0"));
        assert_eq!(parse("localhost:80", 80), Ok(Written::Name("localhost", 80)));
        assert_eq!(parse("a.b-c.example.:80", 80), Ok(Written::Name("a.b-c.example.", 80)));
        assert_eq!(parse("unix:run/x.sock", 80), Ok(Written::Unix("run/x.sock")));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let cases = [
            ("", "write \"127.0.0.1:8080\""),
            ("127.0.0.1", "write \"127.0.0.1:8080\""),
            ("::1", "write \"[::1]:8080\""),
            ("[::1]", "write \"[::1]:8080\""),
            ("localhost", "write \"localhost:8080\""),
            ("localhost:", "write \"localhost:8080\""),
            ("80", "write \"0.0.0.0:80\""),
            (":80", "write \"0.0.0.0:80\" for IPv4 or \"[::]:80\" for IPv6"),
            ("*:80", "write \"0.0.0.0:80\" for IPv4 or \"[::]:80\" for IPv6"),
            ("http://a.example:81/x", "write \"a.example:81\""),
            ("http://a.example", "write \"a.example:80\""),
            ("/run/x.sock", "write \"unix:/run/x.sock\""),
            ("unix:", "write \"unix:/run/app.sock\""),
            ("unix:///run/x.sock", "write \"unix:/run/x.sock\""),
            ("::1:80", "write \"[::1]:80\", or \"[::1:80]:8080\" if 80 belongs to the address"),
            ("[2001:db8::1:80", "write \"[2001:db8::1]:80\""),
            ("a b:80", ""),
            ("a..b:80", ""),
            ("256.0.0.1:80", ""),
            ("localhost:http", ""),
            ("localhost:65536", ""),
            ("localhost:+80", ""),
            ("224.0.0.1:80", ""),
            ("[::ffff:1.2.3.4]:80", "write \"1.2.3.4:80\""),
        ];
        for (text, help) in cases {
            let mistake = parse(text, 8080).unwrap_err();
            assert_eq!(mistake.help.unwrap_or_default(), help, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = parse(&text, 80);
        }
    }
}
