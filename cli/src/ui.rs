//! The only way out: data on stdout, everything else on stderr, nothing unprintable on either.
//!
//! Invariant: a reader of stdout that goes away ends the command without an error; a lost stderr is not
//! noticed.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use comfy_table::{Table, presets};
use gilliam_model::run::RunStream;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    args::Globals,
    failure::{CommandError, CommandResult, Kind},
    home::Environment,
    printable::{printable, printable_json},
};

/// Spaces between two columns of a table.
const COLUMN_GAP: u16 = 2;

/// Where a command's output goes, and in which form.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    color: bool,
    out_is_terminal: bool,
    err_is_terminal: bool,
}

/// Work that goes on: a moving line on a terminal, a line for each change elsewhere.
#[derive(Debug)]
pub(crate) struct Spinner<'a> {
    ui: &'a Ui,
    label: String,
    bar: Option<ProgressBar>,
    shown: String,
}

/// Prints what clap makes of a wrong command line, or help and version, and returns the exit code.
pub(crate) fn show_usage(error: &clap::Error) -> ExitCode {
    // A closed pipe behind `gilliam --help | head` is not an error.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

impl Ui {
    pub(crate) fn new(globals: &Globals, environment: &Environment) -> Self {
        let err_is_terminal = io::stderr().is_terminal();
        Self {
            json: globals.json,
            quiet: globals.quiet,
            color: err_is_terminal && !environment.no_color,
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal,
        }
    }

    /// Whether data is wanted as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Whether stdout is a person's terminal.
    pub(crate) fn out_is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// A line of data.
    pub(crate) fn data(&self, line: &str) -> CommandResult {
        writeln!(io::stdout().lock(), "{}", printable(line))?;
        Ok(())
    }

    /// Data exactly as it is, where no terminal reads it; printable on a terminal.
    pub(crate) fn data_exact(&self, text: &str) -> CommandResult {
        if self.out_is_terminal {
            return self.data(text);
        }
        writeln!(io::stdout().lock(), "{text}")?;
        Ok(())
    }

    /// What a run wrote, as it is: a terminal is the run's as it is a shell's.
    pub(crate) fn raw(&self, stream: RunStream, bytes: &[u8]) -> CommandResult {
        match stream {
            RunStream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
            }
            RunStream::Stderr => io::stderr().lock().write_all(bytes)?,
        }
        Ok(())
    }

    /// A JSON document in one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> CommandResult {
        let json = serde_json::to_string(value)
            .map_err(|e| CommandError::failed(format!("cannot write the answer as JSON: {e}")))?;
        writeln!(io::stdout().lock(), "{}", printable_json(&json))?;
        Ok(())
    }

    /// Rows of columns, with a header on a terminal.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) -> CommandResult {
        let mut out = io::stdout().lock();
        let header = self.out_is_terminal.then_some(header);
        for line in table_lines(header, rows) {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Empties the terminal that stdout is, for the next view of something watched.
    pub(crate) fn clear(&self) -> CommandResult {
        if self.out_is_terminal {
            let mut out = io::stdout().lock();
            out.write_all(b"\x1b[H\x1b[2J\x1b[3J")?;
            out.flush()?;
        }
        Ok(())
    }

    /// Progress or an explanation; not with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.err("", text);
        }
    }

    /// What to do next; not with `--quiet`.
    pub(crate) fn hint(&self, text: &str) {
        if !self.quiet {
            self.err("hint: ", text);
        }
    }

    /// How to take back what was done; not with `--quiet`.
    pub(crate) fn undo(&self, text: &str) {
        if !self.quiet {
            self.err("undo: ", text);
        }
    }

    /// Asks a question on the terminal; none when there is nobody to ask.
    pub(crate) fn ask(&self, question: &str) -> CommandResult<Option<String>> {
        if !io::stdin().is_terminal() || !self.err_is_terminal {
            return Ok(None);
        }
        let mut err = io::stderr().lock();
        let _ = write!(err, "{} ", printable(question));
        let _ = err.flush();
        drop(err);
        let mut answer = String::new();
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|e| CommandError::file("cannot read the answer", &e))?;
        Ok(Some(answer.trim().to_string()))
    }

    /// Shows that `label` goes on.
    pub(crate) fn spinner(&self, label: &str) -> Spinner<'_> {
        let bar = (self.err_is_terminal && !self.quiet).then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.set_message(printable(&format!("{label}…")).into_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Spinner {
            ui: self,
            label: label.to_string(),
            bar,
            shown: String::new(),
        }
    }

    /// Prints the error of a failed command and gives the exit code.
    pub(crate) fn finish(&self, result: CommandResult) -> ExitCode {
        let Err(error) = result else {
            return ExitCode::SUCCESS;
        };
        match error.kind {
            Kind::BrokenPipe => return ExitCode::SUCCESS,
            Kind::Exit(code) => return ExitCode::from(code),
            Kind::Failed | Kind::Usage => {}
        }
        self.err("error: ", &error.message);
        if let Some(hint) = &error.hint {
            self.err("hint: ", hint);
        }
        ExitCode::from(if error.kind == Kind::Usage { 2 } else { 1 })
    }

    fn err(&self, label: &str, text: &str) {
        let label = match (self.color, label) {
            (true, "error: ") => "\x1b[1;31merror:\x1b[0m ",
            (true, "hint: ") => "\x1b[1;36mhint:\x1b[0m ",
            (true, "undo: ") => "\x1b[36mundo:\x1b[0m ",
            _ => label,
        };
        let mut err = io::stderr().lock();
        for (i, line) in text.lines().enumerate() {
            let label = if i == 0 { label } else { "  " };
            // At once: programs that write there too must not come between a line and its end.
            let _ = err.write_all(format!("{label}{}\n", printable(line)).as_bytes());
        }
    }
}

impl Spinner<'_> {
    /// Whether it is one line that changes, so that it may as often as it likes.
    pub(crate) fn moves(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, state: &str) {
        if self.shown == state {
            return;
        }
        self.shown = state.to_string();
        let line = format!("{}… {state}", self.label);
        match &self.bar {
            Some(bar) => bar.set_message(printable(&line).into_owned()),
            None => self.ui.note(&line),
        }
    }

    /// Leaves one line that says how it ended.
    pub(crate) fn finish(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.ui.note(&format!("{}… {result}", self.label));
    }
}

fn table_lines(header: Option<&[&str]>, rows: &[Vec<String>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(header) = header {
        table.set_header(header.iter().map(|cell| (*cell).to_string()).collect::<Vec<_>>());
    }
    for row in rows {
        table.add_row(
            row.iter()
                .map(|cell| printable(cell).into_owned())
                .collect::<Vec<_>>(),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, COLUMN_GAP));
    }
    table.lines().map(|line| line.trim_end().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_borders_and_no_trailing_spaces() {
        let rows = [
            vec!["web.1".into(), "v1".into(), String::new()],
            vec!["worker.1".into(), "v1\n".into(), "x".into()],
        ];
        assert_eq!(table_lines(None, &rows), ["web.1     v1", "worker.1  v1^J  x"]);
        assert_eq!(
            table_lines(Some(&["NAME", "RELEASE", ""]), &rows)[0],
            "NAME      RELEASE"
        );
    }
}
