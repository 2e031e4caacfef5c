//! The command in a pseudo-terminal, as a person uses it.

use crate::setup::Bench;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A running command and its terminal.
pub(crate) struct PseudoTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// All that was shown so far.
    seen: Vec<u8>,
    /// How much of it [`PseudoTerminal::wait_for`] has passed.
    passed: usize,
}

/// A command that shows nothing for so long hangs.
const HANGS: Duration = Duration::from_secs(120);

impl PseudoTerminal {
    /// Starts the command in a terminal of `columns` columns.
    pub(crate) fn start(
        bench: &Bench,
        arguments: &[&str],
        columns: u16,
        environment: &[(&str, &str)],
    ) -> PseudoTerminal {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut command = bench.command(arguments);
        command.env_remove("COLUMNS").env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(environment.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(pair.master);
        let mut output = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A closed terminal is an error on Linux.
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        PseudoTerminal { child, keyboard, screen, seen: Vec::new(), passed: 0 }
    }

    /// Waits until `text` is shown, behind what was waited for before, and returns what came before it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let new = &self.seen[self.passed..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&new[..at]).into_owned();
                self.passed += at + text.len();
                return before;
            }
            match self.screen.recv_timeout(HANGS) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("expected {text:?}, found {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// Waits for the chat's prompt and types.
    #[track_caller]
    pub(crate) fn at_prompt(&mut self, keys: &str) -> String {
        let before = self.wait_for("> ");
        self.type_in(keys);
        before
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Does what Ctrl-C does while nothing reads keys.
    pub(crate) fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    /// Waits for the end and returns the exit code and all that was shown.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        // What is still on its way: a terminal whose last user has left has no more.
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(500)) {
            self.seen.extend(bytes);
        }
        (code, String::from_utf8_lossy(&self.seen).into_owned())
    }
}
