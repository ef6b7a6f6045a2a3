//! TLS: the files that it needs, why it could not be had, and where plain text may go unnoticed.
//!
//! A server that the settings do not trust is `Auth`, whatever is wrong with it: waiting heals a certificate as little
//! as a password. A file that can't be used is `InvalidUrl`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use persist_core::{Error, ErrorKind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, Error as TlsError, RootCertStore};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Certificates and the key, as the URL or the `PGSSL*` variables name them: a path each, or the PEM text itself.
#[derive(Clone, Default)]
pub(crate) struct Files {
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Files {
    /// What the variables name, and over it the parameters.
    pub(crate) fn named(parameters: &[(&'static str, String)]) -> Self {
        let named = |parameter: &str, variable: &str| {
            let of_url = parameters.iter().rev().find(|(name, _)| *name == parameter);
            of_url
                .map(|(_, value)| value.clone())
                .or_else(|| std::env::var(variable).ok())
        };
        Self {
            root: named("sslrootcert", "PGSSLROOTCERT"),
            certificate: named("sslcert", "PGSSLCERT"),
            key: named("sslkey", "PGSSLKEY"),
        }
    }

    pub(crate) fn name_an_authority(&self) -> bool {
        self.root.is_some()
    }

    /// What is wrong with one of those that this mode reads, in words that show neither path nor content.
    pub(crate) async fn fault(&self, mode: PgSslMode) -> Option<Error> {
        use PgSslMode as M;
        let identifies = !matches!(mode, M::Disable | M::Allow);
        let verifies = matches!(mode, M::VerifyCa | M::VerifyFull);
        if identifies && self.certificate.is_some() != self.key.is_some() {
            return Some(unusable("sslcert and sslkey must be given together"));
        }
        for (name, value, is_read) in [
            ("sslrootcert", &self.root, verifies),
            ("sslcert", &self.certificate, identifies),
            ("sslkey", &self.key, identifies),
        ] {
            let Some(value) = value.as_ref().filter(|_| is_read) else {
                continue;
            };
            let pem = if value.trim_start().starts_with("-----BEGIN") {
                value.clone().into_bytes()
            } else {
                match tokio::fs::read(value).await {
                    Ok(pem) => pem,
                    Err(error) => {
                        let what = format!("the file that {name} names can't be read");
                        return Some(unusable(&what).caused_by(std::io::Error::from(error.kind())));
                    }
                }
            };
            let (wanted, is_usable) = match name {
                "sslkey" => ("private key", PrivateKeyDer::from_pem_slice(&pem).is_ok()),
                "sslcert" => ("certificate", certificates(&pem).is_some()),
                _ => ("certificate", certificates(&pem).is_some_and(are_authorities)),
            };
            if !is_usable {
                return Some(unusable(&format!("{name} holds no {wanted} in PEM form")));
            }
        }
        None
    }
}

/// Whether a file that can't be used may be the cause, and not a server that is away.
pub(crate) fn may_be_of_files(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind as K;
    match error {
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        sqlx::Error::Io(error) => !matches!(
            error.kind(),
            K::ConnectionRefused
                | K::ConnectionReset
                | K::ConnectionAborted
                | K::NotConnected
                | K::AddrNotAvailable
                | K::HostUnreachable
                | K::NetworkUnreachable
                | K::NetworkDown
                | K::TimedOut
                | K::UnexpectedEof
                | K::BrokenPipe
        ),
        _ => false,
    }
}

/// One or more, each readable.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|read| !read.is_empty())
}

fn are_authorities(certificates: Vec<CertificateDer<'static>>) -> bool {
    let mut store = RootCertStore::empty();
    certificates.into_iter().all(|one| store.add(one).is_ok())
}

/// Why a handshake with this host came to nothing, where that is what failed.
pub(crate) fn refusal(error: &sqlx::Error, host: &str) -> Option<Error> {
    let failed = match error {
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref::<TlsError>()?,
        sqlx::Error::Tls(error) if error.is::<InvalidDnsNameError>() => {
            return Some(unusable("TLS needs a host name or an address to check"));
        }
        sqlx::Error::Tls(error) => match error.downcast_ref::<TlsError>() {
            Some(failed) => failed,
            // Files are looked at first: nothing else is left that the driver finds out itself.
            None => {
                let what = "the server offers no TLS, and sslmode asks for it; set ssl = on there, with ssl_cert_file \
                            and ssl_key_file";
                return Some(Error::new(ErrorKind::Auth, what));
            }
        },
        _ => return None,
    };
    let (kind, what) = match failed {
        TlsError::InvalidCertificate(why) => (ErrorKind::Auth, of_certificate(why, host)),
        TlsError::AlertReceived(alert) if !may_pass(*alert) => (
            ErrorKind::Auth,
            "the server refused the TLS handshake; if it asks for a client certificate, set sslcert and sslkey".into(),
        ),
        TlsError::PeerIncompatible(_) | TlsError::InconsistentKeys(_) => (
            ErrorKind::Auth,
            "TLS could not be agreed upon; check the server's versions of TLS, and its certificate and key".into(),
        ),
        // As a proxy makes it whose server is away.
        _ => (
            ErrorKind::Unavailable,
            "the TLS handshake was broken off; is the server starting, or a proxy before it".into(),
        ),
    };
    Some(Error::new(kind, what).caused_by(failed.clone()))
}

/// Whether an alert says nothing of the settings on either side.
fn may_pass(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(alert, A::InternalError | A::UserCanceled | A::CloseNotify)
}

fn of_certificate(why: &CertificateError, host: &str) -> String {
    use CertificateError as C;
    match why {
        C::UnknownIssuer | C::BadSignature => {
            "the server's certificate is of no authority that is trusted; set sslrootcert to its CA's".into()
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => format!(
            "the server's certificate is not for {host}; connect by a name that stands in its subjectAltName, or renew \
             it with this one"
        ),
        C::Expired | C::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it, or set the clock here".into()
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; set the clocks, or wait".into()
        }
        _ => "the server's certificate can't be used; it must be of version 3, with a subjectAltName, and signed by a CA \
              that is not itself"
            .into(),
    }
}

/// Warns where plain text may go over a network, once for each host.
pub(crate) fn warn_of_plaintext(options: &PgConnectOptions) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let host = options.get_host();
    if !may_be_plaintext(host, options.get_ssl_mode()) {
        return;
    }
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(host.to_owned()) {
        tracing::warn!(
            host,
            "this sslmode silently falls back to plain text; use sslmode=verify-full"
        );
    }
}

/// Whether what is sent to this host does not leave the machine.
pub(crate) fn is_local(host: &str) -> bool {
    let is_loopback = |address: std::net::IpAddr| address.is_loopback();
    host.starts_with('/') || host == "localhost" || host.parse().is_ok_and(is_loopback)
}

fn may_be_plaintext(host: &str, mode: PgSslMode) -> bool {
    !is_local(host) && matches!(mode, PgSslMode::Prefer | PgSslMode::Allow)
}

fn unusable(what: &str) -> Error {
    Error::new(ErrorKind::InvalidUrl, format!("database URL: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_warned_of_where_it_leaves_the_machine() {
        use PgSslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
        for host in [
            "db.example.org",
            "10.0.0.1",
            "2001:db8::1",
            "localhost.example.org",
        ] {
            for mode in [Prefer, Allow] {
                assert!(may_be_plaintext(host, mode), "{host}");
            }
            // Who says disable knows it.
            for mode in [Disable, Require, VerifyCa, VerifyFull] {
                assert!(!may_be_plaintext(host, mode), "{host}");
            }
        }
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1", "/run/postgresql"] {
            assert!(!may_be_plaintext(host, Prefer), "{host}");
        }
    }
}
