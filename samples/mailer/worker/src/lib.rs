//! The worker process: called once for each job of the queue `emails`.

use gilliam::{Job, JobError};
use mailer_mail::Email;

/// The config that says where mails go; without one they are only written to the log.
const MAIL_URL: &str = "MAIL_URL";

#[gilliam::job]
async fn send(job: Job<Email>) -> Result<(), JobError> {
    let email = &job.payload;
    if !is_address(&email.to) {
        // No attempt will make it one: to the dead letters.
        return Err(JobError::discard(format!("{:?} is no address", email.to)));
    }
    if let Some(url) = gilliam::config(MAIL_URL) {
        // A job may come again; its id tells the mail service that it is the same mail.
        let request = gilliam::http::post(&url).header("idempotency-key", &job.id);
        request.json(email)?.send().await?.ok().await?;
    }
    log::info!("mail {} sent to {} at attempt {}", job.id, email.to, job.attempt);
    Ok(())
}

fn is_address(to: &str) -> bool {
    let parts = to.split_once('@');
    parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_to(to: &str) -> Result<(), JobError> {
        let (to, text) = (to.to_owned(), "Hello!".to_owned());
        gilliam::wait(send(Job::new(Email { to, text })))
    }

    #[test]
    fn a_mail_is_sent_to_an_address_and_never_to_anything_else() {
        assert_eq!(send_to("ada@example.com"), Ok(()));
        for nobody in ["", "ada", "@example.com", "ada@localhost", "a@b@c.d"] {
            let error = send_to(nobody).expect_err(nobody);
            assert_eq!(error, JobError::discard(format!("{nobody:?} is no address")));
        }
    }
}
