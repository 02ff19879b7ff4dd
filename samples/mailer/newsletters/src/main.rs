//! A worker that is a program: it takes the jobs of the queue `newsletters` in a loop, and puts a mail per reader.

use gilliam::{Error, JobError};
use mailer_mail::{Email, Newsletter, QUEUE};

fn main() -> Result<(), Error> {
    gilliam::log_to_stdio();
    // Suspended while there are none; the loop ends when the platform asks this program to.
    for taken in gilliam::queue("newsletters").receive::<Newsletter>() {
        let taken = taken?;
        let sent = gilliam::wait(send(&taken.job().payload));
        taken.settle(sent)?;
    }
    log::info!("no more newsletters");
    Ok(())
}

async fn send(letter: &Newsletter) -> Result<(), JobError> {
    let text = &letter.text;
    let mails = letter.readers.iter().map(|to| Email {
        to: to.clone(),
        text: text.clone(),
    });
    let put = gilliam::queue(QUEUE).put_all(mails).await?;
    log::info!("a newsletter for {} readers waits", put.len());
    Ok(())
}
