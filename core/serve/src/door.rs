//! By which names the service is reached. A browser says in Host where it believes to be, and another
//! site's page cannot choose that freely: a name of this machine's loopback is never a stranger's,
//! whatever its port (port forwarding changes it), and neither is the address that was listened on.
//! Any other name has to be announced.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::Uri;

/// Where the service listens, and by which addresses beside this machine's own it is reached.
#[derive(Clone, Debug)]
pub struct Door {
    /// The listener's address.
    pub listening: SocketAddr,
    /// Addresses that were announced.
    pub public: Vec<PublicUrl>,
}

/// An address by which browsers reach the page: scheme, name and, unless it is the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    secure: bool,
    name: String,
    port: u16,
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<PublicUrl, String> {
        let must =
            || format!("`{text}` must be as in https://runs.example.org or http://name:7400");
        if text.contains('#') {
            return Err(format!("`{text}` has a fragment, and the token is the page's own"));
        }
        let uri: Uri = text.parse().map_err(|_| must())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(must()),
        };
        let authority = uri.authority().ok_or_else(must)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!(
                "`{text}` has a path, and the page lies at the root of its address"
            ));
        }
        let (name, port) = split(authority.as_str(), secure).ok_or_else(must)?;
        if port == 0 || !can_be_asked_for(name) {
            return Err(must());
        }
        Ok(PublicUrl { secure, name: name.to_ascii_lowercase(), port })
    }
}

impl PublicUrl {
    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn is(&self, authority: &str) -> bool {
        split(authority, self.secure)
            .is_some_and(|(name, port)| name.eq_ignore_ascii_case(&self.name) && port == self.port)
    }
}

impl std::fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.name)?;
        if self.port != default_port(self.secure) { write!(f, ":{}", self.port) } else { Ok(()) }
    }
}

impl Door {
    /// The address to print: the first that was announced, else one that this machine can open.
    pub(crate) fn address(&self) -> String {
        if let Some(public) = self.public.first() {
            return public.to_string();
        }
        let ip = match self.listening.ip() {
            // Every address of the machine: its loopback is one that can be opened.
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.listening.port()))
    }

    /// What the owner of a service that others can reach should know.
    pub fn warning(&self) -> Option<String> {
        let (ip, port) = (self.listening.ip(), self.listening.port());
        if ip.is_loopback() {
            return None;
        }
        let mut warning = format!(
            "whoever reaches port {port} of this machine can read every run; writing wants the token"
        );
        if ip.is_unspecified() && self.public.is_empty() {
            warning += &format!(
                "\nonly this machine's own names are answered: to come by another, name it with --public-url \
                 http://NAME:{port}, or forward the port with ssh -L {port}:localhost:{port}"
            );
        }
        Some(warning)
    }

    /// Whether Host names this service.
    pub(crate) fn is_ours(&self, host: &str) -> bool {
        self.is_local(host) || self.public.iter().any(|public| public.is(host))
    }

    /// Whether Origin is the page of this service, asked for as `host`.
    pub(crate) fn is_own_page(&self, origin: &str, host: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        // The same name, too: localhost and 127.0.0.1 are two sites to a browser.
        (self.is_local(host) && scheme == "http" && authority.eq_ignore_ascii_case(host))
            // A proxy may ask under another name than the browser did.
            || self.public.iter().any(|public| public.scheme() == scheme && public.is(authority))
    }

    fn is_local(&self, host: &str) -> bool {
        let Some((name, _)) = split(host, false) else { return false };
        let literal =
            name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match literal.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || (ip == self.listening.ip() && !ip.is_unspecified()),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// Whether a browser can have gone to a host of this name: no pattern is one.
fn can_be_asked_for(name: &str) -> bool {
    if let Some(literal) = name.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    labels.into_iter().all(|label| !label.is_empty() && label.chars().all(plain))
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Name and port of an authority; the scheme's own port may be left out.
fn split(authority: &str, secure: bool) -> Option<(&str, u16)> {
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
        _ => (authority, default_port(secure)),
    };
    (!name.is_empty() && !name.contains('@')).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(listening: &str, public: &[&str]) -> Door {
        let public = public.iter().map(|url| url.parse().unwrap()).collect();
        Door { listening: listening.parse().unwrap(), public }
    }

    #[test]
    fn printed_address_is_one_that_is_answered() {
        for (listening, public, address) in [
            ("127.0.0.1:7400", &[][..], "http://127.0.0.1:7400"),
            ("127.0.0.2:7400", &[], "http://127.0.0.2:7400"),
            ("[::1]:7400", &[], "http://[::1]:7400"),
            ("0.0.0.0:7400", &[], "http://127.0.0.1:7400"),
            ("[::]:7400", &[], "http://[::1]:7400"),
            ("192.168.1.5:7400", &[], "http://192.168.1.5:7400"),
            ("0.0.0.0:7400", &["https://Runs.example.org/"], "https://runs.example.org"),
            ("127.0.0.1:7400", &["http://node7:8080"], "http://node7:8080"),
        ] {
            let door = door(listening, public);
            assert_eq!(door.address(), address);
            let host = address.split_once("://").unwrap().1;
            assert!(door.is_ours(host) && door.is_own_page(address, host), "{address}");
        }
    }

    #[test]
    fn only_announced_names_are_answered_beside_loopback() {
        let door = door("0.0.0.0:7400", &["https://runs.example.org", "http://node7:8080"]);
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:7400", "127.9.9.9:80", "[::1]:65535"] {
            assert!(door.is_ours(host), "{host}");
        }
        for host in ["runs.example.org", "runs.example.org:443", "node7:8080"] {
            assert!(door.is_ours(host), "{host}");
        }
        for host in [
            "",
            ":7400",
            "0.0.0.0:7400",
            "192.168.1.5:7400",
            "node7",
            "node7:7400",
            "localhost:x",
            "localhost:99999",
            "localhost.evil.example",
            "127.0.0.1.evil.example:7400",
            "evil@localhost:7400",
            "runs.example.org:80",
        ] {
            assert!(!door.is_ours(host), "{host}");
        }
        // A proxy asks as localhost on behalf of a browser that is elsewhere.
        assert!(door.is_own_page("https://runs.example.org", "localhost:7400"));
        assert!(!door.is_own_page("http://runs.example.org", "localhost:7400"));
        assert!(!door.is_own_page("http://localhost:5173", "localhost:7400"));
        assert!(!door.is_own_page("http://evil.example", "runs.example.org"));
    }

    #[test]
    fn warning_comes_where_others_can_reach_the_port() {
        assert_eq!(door("127.0.0.1:7400", &[]).warning(), None);
        let open = door("0.0.0.0:7400", &[]).warning().unwrap();
        assert!(open.contains("can read every run") && open.contains("--public-url"), "{open}");
        let announced = door("0.0.0.0:7400", &["http://node7:7400"]).warning().unwrap();
        assert!(announced.contains("can read every run") && !announced.contains("--public-url"));
    }

    #[test]
    fn public_address_that_is_none_is_refused() {
        for url in [
            "runs.example.org",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://*",
            "http://*.example.org",
            "http://a:0",
            "http://a..b",
            "http://[::1",
            "http://a#x",
            "http://a/#x",
        ] {
            assert!(url.parse::<PublicUrl>().is_err(), "{url}");
        }
        for url in
            ["https://runs.example.org", "http://node_7:8080", "http://[::1]:7400", "http://a."]
        {
            assert!(url.parse::<PublicUrl>().is_ok(), "{url}");
        }
    }
}
