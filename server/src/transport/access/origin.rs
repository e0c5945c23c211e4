//! The sites whose pages may call: a browser sends requests for any page, with the address that the user can reach.
//!
//! A browser names the page's origin in each POST and in each request whose answer the page could read (Fetch §3.2), and
//! says in `Sec-Fetch-Site` whether the page is of another site. Other clients send neither. A page whose name was made to
//! resolve to this machine (DNS rebinding) sends its own name in `Host`.

use std::net::IpAddr;

use http::{Method, header, request};

use super::Refusal;

/// The sites whose pages may call, and the names that a request may be sent to.
#[derive(Clone, Debug)]
pub struct Sites {
    /// Origins, in lower case: `https://example.com`, or `null`.
    allowed: Vec<String>,
    /// Whether `*` is among the allowed ones.
    any: bool,
    /// Whether `Host` must be a name of this machine.
    only_local_names: bool,
    /// The machine's name; empty if it is not known.
    machine: String,
}

/// A value that is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--allow-origin: '{0}' is not an origin: use a form such as https://example.com or http://example.com:3000, or * for every site"
)]
pub struct OriginError(String);

impl Sites {
    /// These origins may call. With `only_local_names`, which is for a listener on loopback, a request must be sent to an
    /// address, to `localhost`, to the machine's name, to a name without a dot, or to the host of an allowed origin.
    ///
    /// # Errors
    /// When a text is not an origin.
    pub fn new(origins: &[String], only_local_names: bool) -> Result<Self, OriginError> {
        let mut allowed = Vec::new();
        for text in origins {
            let origin = text.trim_end_matches('/').to_ascii_lowercase();
            let has_form = origin.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@', '*'])
            });
            if !has_form && origin != "*" && origin != "null" {
                return Err(OriginError(text.clone()));
            }
            allowed.push(origin);
        }
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Ok(Self { any: allowed.iter().any(|origin| origin == "*"), allowed, only_local_names, machine })
    }

    /// Whether a request comes from a page that may call, or from no page.
    ///
    /// # Errors
    /// The reason, with the flag that allows it.
    pub(super) fn check(&self, head: &request::Parts) -> Result<(), Refusal> {
        if self.any {
            return Ok(());
        }
        // RFC 9112 §3.2.2: the host of an absolute target replaces the header.
        let host = match head.uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => head.headers.get(header::HOST).map(http::HeaderValue::as_bytes),
        };
        let host = host.map(|host| std::str::from_utf8(host).unwrap_or("?"));
        if self.only_local_names
            && let Some(host) = host
            && !self.is_ours(host)
        {
            return Err(wrong_host(host));
        }
        match head.headers.get(header::ORIGIN) {
            Some(origin) => {
                let origin = origin.to_str().unwrap_or("?");
                if self.may_call(origin, host) { Ok(()) } else { Err(foreign(origin)) }
            }
            None if head.method == Method::GET || head.method == Method::HEAD => Ok(()),
            None => match head.headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes) {
                Some(b"cross-site" | b"same-site") => Err(foreign("unknown")),
                _ => Ok(()),
            },
        }
    }

    /// Whether a page of this origin may call: it is allowed, or the request is sent to the same place, by a name that no
    /// stranger can have.
    fn may_call(&self, origin: &str, host: Option<&str>) -> bool {
        let same = || {
            let (_, authority) = origin.split_once("://")?;
            let host = host?;
            Some(authority.eq_ignore_ascii_case(host) && self.is_machines(name(host)))
        };
        self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) || same().unwrap_or(false)
    }

    /// Whether a request may be sent to this host on loopback. A name without a dot is one of this network, such as that of
    /// a container: no stranger's site has one.
    fn is_ours(&self, host: &str) -> bool {
        let name = name(host);
        let is_of_network = !name.is_empty() && !name.contains('.');
        self.is_machines(name)
            || is_of_network
            || self.allowed.iter().any(|origin| {
                origin.split_once("://").is_some_and(|(_, authority)| self::name(authority).eq_ignore_ascii_case(name))
            })
    }

    /// Whether a name cannot be a stranger's: an address, which needs no resolution, `localhost`, or the machine's name.
    fn is_machines(&self, name: &str) -> bool {
        let localhost = |name: &str| {
            let start = name.len().checked_sub("localhost".len());
            let (before, end) = start.and_then(|start| name.split_at_checked(start)).unwrap_or((name, ""));
            end.eq_ignore_ascii_case("localhost") && (before.is_empty() || before.ends_with('.'))
        };
        let machine = !name.is_empty() && name.eq_ignore_ascii_case(&self.machine);
        name.parse::<IpAddr>().is_ok() || localhost(name) || machine
    }
}

/// The name of `name:port` or `[address]:port`, without a final dot.
fn name(host: &str) -> &str {
    if let Some(address) = host.strip_prefix('[') {
        return address.split_once(']').map_or(address, |(address, _)| address);
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// At most so many characters of a request's text are quoted.
const MAX_QUOTED: usize = 200;

fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).filter(|character| !character.is_control()).collect()
}

fn foreign(origin: &str) -> Refusal {
    let origin = quoted(origin);
    Refusal::Site(format!(
        "a page of another site ({origin}) may not call this server; --allow-origin {origin} allows that site"
    ))
}

fn wrong_host(host: &str) -> Refusal {
    let host = quoted(host);
    Refusal::Site(format!(
        "this server listens on loopback and is not called '{host}'; --allow-origin http://{host} allows that name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sites: &Sites, method: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = http::Request::builder().method(method).uri("/v2/models/a/infer");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        sites.check(&head).map_err(|refusal| refusal.to_string())
    }

    fn sites(origins: &[&str], only_local_names: bool) -> Sites {
        let origins: Vec<_> = origins.iter().map(|&origin| origin.to_owned()).collect();
        Sites::new(&origins, only_local_names).unwrap()
    }

    #[test]
    fn on_loopback_the_host_is_of_this_machine() {
        let sites = sites(&["https://models.example.com"], true);
        let machine = sites.machine.clone();
        for host in [
            "localhost",
            "LOCALHOST:8010",
            "localhost.:8010",
            "a.localhost",
            "127.0.0.1:8010",
            "127.9.9.9",
            "[::1]:8010",
            "192.168.0.7:8010",
            "models.example.com",
            "models.example.com:8010",
            "triton:8000",
            "x",
            &machine,
        ] {
            assert_eq!(check(&sites, "POST", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8010",
            "notlocalhost.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
        ] {
            let refusal = check(&sites, "GET", &[("host", host)]).unwrap_err();
            assert!(refusal.contains(&format!("is not called '{host}'; --allow-origin")), "{refusal}");
        }
        // HTTP/1.0 has no Host, and no browser.
        assert_eq!(check(&sites, "POST", &[]), Ok(()));
    }

    #[test]
    fn elsewhere_every_host_is_accepted() {
        for host in ["evil.example", "lb.internal:80", "x"] {
            assert_eq!(check(&sites(&[], false), "POST", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let sites = sites(&["https://models.example.com"], false);
        for (host, origin) in [
            ("127.0.0.1:8010", "http://127.0.0.1:8010"),
            ("localhost:9000", "http://localhost:9000"),
            ("127.0.0.1:8010", "https://models.example.com"),
            ("127.0.0.1:8010", "HTTPS://Models.example.com"),
        ] {
            assert_eq!(check(&sites, "POST", &[("host", host), ("origin", origin)]), Ok(()), "{origin}");
        }
        for (host, origin) in [
            ("127.0.0.1:8010", "https://evil.example"),
            ("127.0.0.1:8010", "null"),
            ("localhost:8010", "http://localhost:3000"),
            ("localhost:8010", "https://models.example.com.evil.example"),
            // DNS rebinding: the page and the request have the same name, but a stranger's.
            ("evil.example:8010", "http://evil.example:8010"),
        ] {
            let refusal = check(&sites, "POST", &[("host", host), ("origin", origin)]).unwrap_err();
            assert!(refusal.ends_with(&format!("--allow-origin {origin} allows that site")), "{refusal}");
        }
    }

    #[test]
    fn without_an_origin_the_browsers_word_counts_unless_nothing_runs() {
        let sites = sites(&[], false);
        let host = ("host", "h");
        for word in ["cross-site", "same-site"] {
            assert!(check(&sites, "POST", &[host, ("sec-fetch-site", word)]).is_err(), "{word}");
            assert_eq!(check(&sites, "GET", &[host, ("sec-fetch-site", word)]), Ok(()), "{word}");
        }
        for word in ["none", "same-origin"] {
            assert_eq!(check(&sites, "POST", &[host, ("sec-fetch-site", word)]), Ok(()), "{word}");
        }
    }

    #[test]
    fn a_star_allows_every_site_and_other_texts_are_no_origins() {
        let all = sites(&["*"], true);
        assert_eq!(check(&all, "POST", &[("host", "evil.example"), ("origin", "https://evil.example")]), Ok(()));
        for text in ["example.com", "https://", "https://a/path", "https://*.example.com", ""] {
            assert_eq!(Sites::new(&[text.into()], false).unwrap_err(), OriginError(text.into()));
        }
        assert!(Sites::new(&["null".into(), "https://a.example/".into()], false).is_ok());
    }
}
