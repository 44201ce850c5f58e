//! `[api]`

use std::net::SocketAddr;

use crate::raw;
use crate::values::Validator;
use crate::{Api, Tls};

impl Validator<'_> {
    /// Off unless somebody asks for it: a port that nobody uses is one more to defend.
    pub(crate) fn api(&mut self, a: raw::Api) -> Option<Api> {
        let tls = match (a.tls_cert, a.tls_key) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                self.wrong(
                    one.span(),
                    "tls_cert and tls_key belong together, one of them is missing",
                    "name both files, PEM, or neither",
                );
                return None;
            }
            (Some(cert), Some(key)) => Some(Tls {
                cert: self.path("tls_cert", Some(cert), ""),
                key: self.path("tls_key", Some(key), ""),
            }),
        };
        let listen = a.listen.filter(|l| l.get_ref() != "off")?;
        let Ok(address) = listen.get_ref().parse::<SocketAddr>() else {
            let message = format!("listen = \"{}\" is no address and port", listen.get_ref());
            self.wrong(listen.span(), message, "write \"127.0.0.1:9478\", \"[::1]:9478\" or \"off\"");
            return None;
        };
        if tls.is_none() && !address.ip().is_loopback() {
            self.wrong(
                listen.span(),
                format!("{address} can be reached from other machines, and tokens would travel unencrypted"),
                "set tls_cert and tls_key, or listen on 127.0.0.1 behind a proxy of this machine that speaks TLS",
            );
        }
        Some(Api { listen: address, tls })
    }
}
