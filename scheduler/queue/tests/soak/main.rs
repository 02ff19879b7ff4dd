//! Many jobs through each backend while the processes that put, take and do them are killed (SIGKILL) at random
//! moments: none is lost, one comes twice only where the process that had it was killed, and the first deliveries of
//! a queue with one worker are in the order in which its jobs were put. `GILLIAM_SOAK_JOBS=1000000` asks for more.
//!
//! A process is this test binary, run again for the one test `process`. What it did it writes to a log of its own,
//! which outlives it: `a N`, job N of the queue `many` is acknowledged, `q N`, one of `ordered`; `t ID N ATTEMPT`,
//! `o …`, it is begun; `d ID`, it is done. All is judged by these logs.

#[path = "../postgres_process/mod.rs"]
mod postgres_process;
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use process::{DEAD, LOG, PART, PLACE, Part};

/// Jobs of a test, unless it is said.
const JOBS: u64 = 6_000;
/// Times that a process is killed, whatever the number of jobs.
const KILLS: u64 = 8;
/// Bytes that a job leaves in logs at least.
const JOB_BYTES: u64 = 36;
/// Pause between two looks at logs.
const LOOK: Duration = Duration::from_millis(5);
/// Longest time in which no process writes anything.
const STALLED: Duration = Duration::from_secs(90);

#[test]
fn process() {
    if let Ok(place) = std::env::var(PLACE) {
        process::run(&place);
    }
}

#[test]
fn no_job_is_lost_while_the_process_that_has_the_file_is_killed() {
    let folder = tempfile::tempdir().expect("folder");
    Soak::new(folder.path().to_str().expect("text")).run(1);
}

#[test]
fn no_job_is_lost_while_the_processes_that_share_a_postgresql_are_killed() {
    let database = postgres_process::database();
    Soak::new(&database.url()).run(3);
}

struct Soak {
    place: String,
    folder: tempfile::TempDir,
    lives: Vec<Life>,
}

/// A process that runs, or was killed.
struct Life {
    log: PathBuf,
    child: Option<Child>,
    /// Which of those that run at once it is: the first one has the ordered queue.
    slot: usize,
}

impl Life {
    /// Lines that are whole: of the last one a part may lack.
    fn text(&self) -> String {
        let mut text = fs::read_to_string(&self.log).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    fn bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Soak {
    fn new(place: &str) -> Self {
        Self {
            place: place.to_string(),
            folder: tempfile::tempdir().expect("folder"),
            lives: Vec::new(),
        }
    }

    fn run(mut self, at_once: usize) {
        let begun = Instant::now();
        let jobs = std::env::var("GILLIAM_SOAK_JOBS").map_or(JOBS, |jobs| jobs.parse().expect("a number"));
        let each = jobs / at_once as u64;
        (0..at_once).for_each(|slot| self.start(slot, each));
        for kill in 1..=KILLS {
            // Kills are spread over the work, each at any moment.
            let part = jobs * kill / (KILLS + 2);
            self.wait("jobs to be done", |soak| soak.bytes() >= part * JOB_BYTES);
            std::thread::sleep(Duration::from_millis(fastrand::u64(..50)));
            let slot = fastrand::usize(..at_once);
            for life in self.lives.iter_mut().filter(|life| life.slot == slot) {
                life.kill();
            }
            let acknowledged = self.of(slot, "a ") + self.of(slot, "q ");
            self.start(slot, each.saturating_sub(acknowledged));
        }
        self.wait("all jobs to be done", Soak::have_ended);
        println!("{}, {:.0} s", self.judge(), begun.elapsed().as_secs_f64());
    }

    /// Starts a process that puts so many jobs, and ends the leases of those before it.
    fn start(&mut self, slot: usize, jobs: u64) {
        let number = self.lives.len();
        let log = self.folder.path().join(number.to_string());
        let dead = self
            .lives
            .iter()
            .enumerate()
            .filter(|(_, life)| life.slot == slot);
        let dead: Vec<String> = dead.map(|(number, _)| format!("p{number}")).collect();
        let part = Part {
            number: number as u64,
            jobs,
            is_first: slot == 0,
        };
        let mut command = Command::new(std::env::current_exe().expect("path"));
        command
            .args(["--exact", "process", "--nocapture"])
            .env(PLACE, &self.place)
            .env(LOG, &log)
            .env(PART, part.to_string())
            .env(DEAD, dead.join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = Some(command.spawn().expect("a process"));
        self.lives.push(Life { log, child, slot });
    }

    /// Lines of a slot's processes that begin so.
    fn of(&self, slot: usize, kind: &str) -> u64 {
        let lives = self.lives.iter().filter(|life| life.slot == slot);
        let count = |life: &Life| life.text().lines().filter(|line| line.starts_with(kind)).count() as u64;
        lives.map(count).sum()
    }

    fn bytes(&self) -> u64 {
        self.lives.iter().map(Life::bytes).sum()
    }

    fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let mut seen = (0, Instant::now());
        while !is_so(self) {
            let bytes = self.bytes();
            if bytes != seen.0 {
                seen = (bytes, Instant::now());
            }
            assert!(seen.1.elapsed() < STALLED, "waited in vain for {what}");
            std::thread::sleep(LOOK);
        }
    }

    /// Whether all that were not killed have ended, which they do well.
    fn have_ended(&mut self) -> bool {
        self.lives
            .iter_mut()
            .filter_map(|life| life.child.as_mut())
            .all(|child| {
                let ended = child.try_wait().expect("wait");
                assert!(ended.is_none_or(|status| status.success()), "a process failed");
                ended.is_some()
            })
    }

    /// Judges what all processes wrote.
    fn judge(&self) -> String {
        let (mut acknowledged, mut came) = (BTreeSet::new(), BTreeSet::new());
        let mut begun: BTreeMap<u64, BTreeMap<u64, usize>> = BTreeMap::new();
        let (mut done, mut ordered) = (BTreeSet::new(), Vec::new());
        for (index, life) in self.lives.iter().enumerate() {
            for line in life.text().lines() {
                let mut words = line.split(' ');
                let kind = words.next().expect("a kind");
                let mut number = || words.next().expect("a word").parse::<u64>().expect("a number");
                match kind {
                    "a" | "q" => drop(acknowledged.insert(number())),
                    "d" => assert!(done.insert(number()), "done twice: {line}"),
                    _ => {
                        let (id, n, attempt) = (number(), number(), number());
                        begun.entry(id).or_default().insert(attempt, index);
                        came.insert(n);
                        ordered.extend((kind == "o" && attempt == 1).then_some((id, n)));
                    }
                }
            }
        }
        let lost: Vec<_> = acknowledged.difference(&came).collect();
        assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
        let mut again = 0;
        for (id, attempts) in begun.iter().filter(|(_, attempts)| attempts.len() > 1) {
            again += 1;
            let mut before = attempts.values().rev().skip(1);
            let all_killed = before.all(|life| self.lives[*life].child.is_none());
            assert!(
                all_killed,
                "job {id} came again, though a process that had it lives: {attempts:?}"
            );
        }
        assert!(ordered.is_sorted(), "first deliveries are not in order");
        format!(
            "{} jobs acknowledged, none lost, {again} came again after a kill; {} in order; {KILLS} kills",
            acknowledged.len(),
            ordered.len(),
        )
    }
}
