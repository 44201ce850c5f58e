//! One connection to the mail server, and one mail over it.
//!
//! The transaction is spelled out, since every recipient has an answer of its own: one address that is refused must not
//! keep a mail from the others. Every step has a deadline.

use std::future::Future;
use std::time::Duration;

use config::{Mail, MailTls};
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use super::deliver::{Trouble, told};
use super::secret;

/// A step of the conversation.
const STEP: Duration = Duration::from_secs(60);
/// After the end of the data servers look for viruses and the like: RFC 5321 section 4.5.3.2.6 asks for ten minutes.
const DATA_END: Duration = Duration::from_secs(600);

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The server has taken it for these addresses; others it refused, for now or for good.
    Taken { accepted: Vec<String>, later: Vec<(String, String)>, refused: Vec<(String, String)> },
    /// Not now.
    Later(String),
    /// Never.
    Refused(String),
}

/// Addresses, each with what the server said of it.
pub(super) fn list(all: &[(String, String)]) -> String {
    all.iter().map(|(a, why)| format!("{a}: {why}")).collect::<Vec<_>>().join("; ")
}

/// A connection that is ready for mails.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    server: String,
}

type Error = lettre::transport::smtp::Error;

async fn within<T>(
    limit: Duration,
    doing: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, (Option<Error>, String)> {
    match tokio::time::timeout(limit, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => {
            let text = format!("{doing}: {}", told(&e));
            Err((Some(e), text))
        }
        Err(_) => Err((None, format!("{doing}: no answer for {} s", limit.as_secs()))),
    }
}

async fn tls(mail: &Mail) -> Result<Option<TlsParameters>, Trouble> {
    if mail.tls == MailTls::None {
        return Ok(None);
    }
    let mut builder = TlsParameters::builder(mail.server.clone());
    if let Some(file) = &mail.ca_file {
        let pem = secret::read("ca_file", file).await.map_err(Trouble)?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|e| Trouble(format!("ca_file {}: {}", file.display(), told(&e))))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map(Some).map_err(|e| Trouble(format!("preparing TLS: {}", told(&e))))
}

fn hello(mail: &Mail) -> ClientId {
    let own = || nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).filter(|n| !n.is_empty());
    ClientId::Domain(mail.hello.clone().or_else(own).unwrap_or_else(|| "localhost".to_owned()))
}

impl Connection {
    /// Connects, protects the connection, and logs in.
    pub(super) async fn open(mail: &Mail) -> Result<Connection, Trouble> {
        let server = format!("{}:{}", mail.server, mail.port);
        let trouble = |(_, text): (Option<Error>, String)| Trouble(format!("mail server {server}: {text}"));
        let tls = tls(mail).await?;
        let hello = hello(mail);
        let at_once = if mail.tls == MailTls::Tls { tls.clone() } else { None };
        let address = (mail.server.as_str(), mail.port);
        let connect = AsyncSmtpConnection::connect_tokio1(address, Some(STEP), &hello, at_once, None);
        let mut smtp = within(STEP, "connecting", connect).await.map_err(trouble)?;
        if mail.tls == MailTls::Starttls
            && let Some(tls) = tls
        {
            if !smtp.can_starttls() {
                let text = "it offers no STARTTLS; set [mail] tls and port as the server has them";
                return Err(trouble((None, text.to_owned())));
            }
            within(STEP, "STARTTLS", smtp.starttls(tls, &hello)).await.map_err(trouble)?;
        }
        if let (Some(user), Some(file)) = (&mail.user, &mail.password_file) {
            let bytes = secret::read("password_file", file).await.map_err(Trouble)?;
            let password = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            let credentials = Credentials::new(user.clone(), password);
            let login = smtp.auth(DEFAULT_MECHANISMS, &credentials);
            within(STEP, &format!("logging in as {user}"), login).await.map_err(trouble)?;
        }
        Ok(Connection { smtp, server })
    }

    async fn step(
        &mut self,
        limit: Duration,
        doing: &str,
        command: impl std::fmt::Display,
    ) -> Result<Response, (Option<Error>, String)> {
        within(limit, doing, self.smtp.command(command)).await
    }

    fn trouble(&self, text: &str) -> Trouble {
        Trouble(format!("mail server {}: {text}", self.server))
    }

    /// Sends a mail. After an error the connection is of no more use.
    pub(super) async fn send(
        &mut self,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Sent, Trouble> {
        // Whoever may not send at all is told so here: no mail is to blame for that.
        let begin = self.step(STEP, "MAIL FROM", MailFrom::new(Some(from.clone()), Vec::new())).await;
        begin.map_err(|(_, text)| self.trouble(&text))?;
        let (mut accepted, mut later, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for address in to {
            let name = address.to_string();
            match self.step(STEP, "RCPT TO", Rcpt::new(address.clone(), Vec::new())).await {
                Ok(_) => accepted.push(name),
                Err((Some(e), text)) if e.is_permanent() => refused.push((name, text)),
                Err((Some(e), text)) if e.is_transient() && !is_closing(&e) => later.push((name, text)),
                Err((_, text)) => return Err(self.trouble(&text)),
            }
        }
        if accepted.is_empty() {
            self.reset().await?;
            return Ok(if later.is_empty() {
                Sent::Refused(list(&refused))
            } else {
                Sent::Later(list(&[later, refused].concat()))
            });
        }
        match self.step(STEP, "DATA", Data).await {
            Ok(_) => {}
            Err((Some(e), text)) => return self.judge(&e, text).await,
            Err((None, text)) => return Err(self.trouble(&text)),
        }
        match within(DATA_END, "end of data", self.smtp.message(mail)).await {
            Ok(_) => Ok(Sent::Taken { accepted, later, refused }),
            Err((Some(e), text)) => self.judge(&e, text).await,
            Err((None, text)) => Err(self.trouble(&format!(
                "{text}; it may have the mail, which is sent again under the same Message-ID"
            ))),
        }
    }

    /// An answer to a mail as a whole.
    async fn judge(&mut self, e: &Error, text: String) -> Result<Sent, Trouble> {
        if e.is_permanent() {
            self.reset().await?;
            Ok(Sent::Refused(text))
        } else if e.is_transient() && !is_closing(e) {
            self.reset().await?;
            Ok(Sent::Later(text))
        } else {
            Err(self.trouble(&text))
        }
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        self.step(STEP, "RSET", Rset).await.map(|_| ()).map_err(|(_, text)| self.trouble(&text))
    }

    /// Says goodbye; whether it is heard does not matter.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.smtp.quit()).await;
    }
}

/// 421: the server closes the connection.
fn is_closing(e: &Error) -> bool {
    e.status().is_some_and(|c| u16::from(c) == 421)
}
