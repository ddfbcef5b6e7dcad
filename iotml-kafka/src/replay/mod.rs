//! The subcommand `replay`: shows the dead letters of a topic, or feeds them back to where they came from.
//!
//! Feeding back is a pipeline like any other: a source in a consumer group, a choice, an encoder that restores the message, and a
//! sink. So a message is durable before its dead letter counts as done, and a replay that was interrupted goes on where it was.

mod arguments;
mod choice;
mod feed;
mod filter;
mod letter;
mod limited;
mod place;
mod progress;
mod restore;
mod show;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use iotml_core::cli::clap::{self, ArgMatches, Args, FromArgMatches};
use iotml_core::cli::{Command, USAGE, fail, print};
use iotml_core::plugin::Registry;

use self::arguments::Arguments;
use self::choice::{Choice, Counts, Fate};
use self::feed::{End, Feed};
use self::letter::Letter;
use self::place::Place;
use self::progress::Progress;
use crate::log::{LogError, LogRange, LogReader, LogReaderConfig, OnGap, Select, Until};

/// How often a group is joined to read what is left.
const ROUNDS: u32 = 3;

/// How many messages are looked at together.
const LOOK_ROWS: usize = 4096;

/// How long a look waits for messages before it looks again.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

/// The subcommand.
pub(crate) struct Replay;

impl Command for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn about(&self) -> &'static str {
        "Show dead letters, or feed them back to where they came from"
    }

    fn arguments(&self, command: clap::Command) -> clap::Command {
        Arguments::augment_args(command)
    }

    fn run(&self, matches: &ArgMatches, registry: &Arc<Registry>) -> ExitCode {
        let arguments = match Arguments::from_arg_matches(matches) {
            Ok(arguments) => arguments,
            Err(error) => return fail(&error, USAGE),
        };
        let place = match Place::find(&arguments, registry) {
            Ok(place) => place,
            Err(message) => return fail(&message, USAGE),
        };
        if let Err(error) = iotml_core::log::init(&place.log, place.secrets.clone()) {
            return fail(&error, USAGE);
        }
        let job = Job::new(&arguments, place);
        match job.run(registry) {
            Ok(text) => print(&text),
            Err(message) => fail(&job.place.secrets.scrub(&message), 1),
        }
    }
}

/// One call of the subcommand.
struct Job<'a> {
    arguments: &'a Arguments,
    place: Place,
    choice: Arc<Choice>,
    group: String,
}

impl<'a> Job<'a> {
    fn new(arguments: &'a Arguments, place: Place) -> Self {
        let mut filter = arguments.filter.clone();
        filter.pipeline.extend(place.pipeline.clone());
        let how = &arguments.how;
        // Other conditions, another group: else those that one replay left out would count as done for the next.
        let to = how.to.as_ref().map(|to| format!("/to={to}")).unwrap_or_default();
        let group = how.group.clone().unwrap_or_else(|| format!("iotml-replay/{}{filter}{to}", place.topic));
        let choice = Arc::new(Choice { filter, max_replays: how.max_replays, home: place.way.home() });
        Self { arguments, place, choice, group }
    }

    /// Does it; what is to be told in the end.
    fn run(&self, registry: &Arc<Registry>) -> Result<String, String> {
        let how = &self.arguments.how;
        let mut log = self.open().map_err(|error| iotml_core::error::report(&error))?;
        let held = log.resolve(&Select::All).map_err(|error| iotml_core::error::report(&error))?;
        if self.arguments.look.list {
            return self.list(&mut log, &held);
        }
        let progress = Progress { kafka: &self.place.kafka, group: &self.group };
        if self.arguments.look.dry_run {
            let rest = if how.from_beginning { held } else { progress.rest(&held)? };
            return self.count(&mut log, &rest);
        }
        if how.from_beginning {
            progress.reset(&held)?;
        }
        let counts = Arc::new(Counts::default());
        let (n_replayed, ended) = self.feed(registry, &counts, |rounds| {
            let n_left = self.n_messages(&mut log, &progress.rest(&held)?)?;
            match n_left {
                0 => Ok(false),
                _ if rounds < ROUNDS => Ok(true),
                n_left => {
                    Err(format!("{n_left} messages were not read; does another replay of the same group have them?"))
                }
            }
        });
        let text = format!("{}\nthe group {:?} keeps how far this is\n", counts.told(n_replayed), self.group);
        match ended {
            Ok(()) => Ok(text),
            Err(message) => {
                print(&text);
                Err(message)
            }
        }
    }

    /// Feeds back until nothing is left: how many. A member of a group may be given nothing, or not all, while the group forms
    /// anew, so `goes_on` says after every round whether there is more.
    fn feed(
        &self,
        registry: &Arc<Registry>,
        counts: &Arc<Counts>,
        mut goes_on: impl FnMut(u32) -> Result<bool, String>,
    ) -> (u64, Result<(), String>) {
        let how = &self.arguments.how;
        let (place, choice, counts) = (&self.place, self.choice.clone(), counts.clone());
        let feed = Feed { place, choice, group: &self.group, follow: how.follow, counts };
        let mut n_replayed = 0;
        for rounds in 1.. {
            let (n, ended) = feed.run(registry, how.limit.map(|limit| limit - n_replayed));
            n_replayed += n;
            let is_enough = how.limit.is_some_and(|limit| n_replayed >= limit);
            match ended {
                Err(message) => return (n_replayed, Err(message)),
                Ok(End::Signal) => break,
                Ok(End::Source) if is_enough => break,
                Ok(End::Source) => match goes_on(rounds) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(message) => return (n_replayed, Err(message)),
                },
            }
        }
        (n_replayed, Ok(()))
    }

    /// How many messages are in a range; its offsets may be more.
    fn n_messages(&self, log: &mut LogReader, range: &LogRange) -> Result<u64, String> {
        let mut n_messages = 0;
        match self.look(log, range, |_| Ok(n_messages += 1)) {
            Ok(()) => Ok(n_messages),
            Err(Ended::Read(error)) => Err(iotml_core::error::report(&error)),
            Err(_) => Ok(n_messages),
        }
    }

    fn open(&self) -> Result<LogReader, LogError> {
        let mut config = LogReaderConfig::new("", &self.place.topic);
        config.kafka = self.place.kafka.clone();
        // What retention takes away meanwhile can neither be shown nor counted.
        config.on_gap = OnGap::Skip;
        LogReader::open(config)
    }

    /// Shows what matches, whatever became of it.
    fn list(&self, log: &mut LogReader, held: &LogRange) -> Result<String, String> {
        let format = self.arguments.look.format;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut left = self.arguments.how.limit.unwrap_or(u64::MAX);
        let mut listing = || -> Result<(), Ended> {
            show::heading(&mut out, format)?;
            self.look(log, held, |letter| {
                if self.choice.filter.matches(letter) {
                    show::letter(&mut out, format, letter)?;
                    left -= 1;
                }
                if left == 0 { Err(Ended::Enough) } else { Ok(()) }
            })?;
            Ok(())
        };
        let listed = listing();
        let flushed = out.flush();
        match listed.and(flushed.map_err(Ended::Write)) {
            Ok(()) | Err(Ended::Enough) => Ok(String::new()),
            // A reader that has gone away is no failure.
            Err(Ended::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(String::new()),
            Err(Ended::Write(error)) => Err(format!("cannot write to stdout: {error}")),
            Err(Ended::Read(error)) => Err(iotml_core::error::report(&error)),
        }
    }

    /// Counts what would be fed back.
    fn count(&self, log: &mut LogReader, rest: &LogRange) -> Result<String, String> {
        let counts = Counts::default();
        let limit = self.arguments.how.limit.unwrap_or(u64::MAX);
        let looked = self.look(log, rest, |letter| {
            let fate = self.choice.fate(letter);
            counts.count(fate);
            if fate == Fate::Back && counts.n_back() >= limit { Err(Ended::Enough) } else { Ok(()) }
        });
        match looked {
            Ok(()) | Err(Ended::Enough) => {
                Ok(format!("{}\nnothing was fed back: {} would be\n", counts.told(0), counts.n_back()))
            }
            Err(Ended::Write(error)) => Err(error.to_string()),
            Err(Ended::Read(error)) => Err(iotml_core::error::report(&error)),
        }
    }

    /// Gives every message of a range to `each`.
    fn look(
        &self,
        log: &mut LogReader,
        range: &LogRange,
        mut each: impl FnMut(&Letter<'_>) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        log.begin(range, Until::End)?;
        while let Some(batch) = log.next_batch(LOOK_ROWS, LOOK_TIMEOUT)? {
            (0..batch.len()).try_for_each(|row| each(&Letter::of(&batch, row)))?;
        }
        Ok(())
    }
}

/// Why a look ended before its range did.
enum Ended {
    /// As many as asked for were found.
    Enough,
    /// The log cannot be read.
    Read(LogError),
    /// What was found cannot be written.
    Write(io::Error),
}

impl From<LogError> for Ended {
    fn from(error: LogError) -> Self {
        Self::Read(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}
