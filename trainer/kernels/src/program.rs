//! Compiling and running a test program.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Beyond this a program counts as hanging. They take seconds; a busy machine may take minutes.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// Compiles a program, or a header into the file beside it that GCC takes in its place.
pub(crate) fn compile(source: &Path, path: &Path, flags: &[&str]) -> Result<(), String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut command = Command::new(&compiler);
    // A signed overflow wraps, as it does on the GPU; products and sums are rounded apart, whatever the CPU has.
    command.args(["-std=c++17", "-pthread", "-fwrapv", "-ffp-contract=off"]).args(flags);
    let output = command.arg(source).arg("-o").arg(path).output();
    let output = output.map_err(|error| {
        format!("the C++ compiler {compiler} does not start ({error}): install one, or name it in CXX")
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{compiler} rejects {}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr)))
}

/// A compiled test program.
pub struct Program {
    path: PathBuf,
}

/// What a run ended with.
pub struct Outcome {
    /// Every case passed.
    pub passed: bool,
    /// What the program printed, and how it ended if not by itself.
    pub output: String,
}

impl Program {
    /// Compiles `source`, a C++ file, to `path` with the compiler that `CXX` names (`c++` by default).
    ///
    /// # Errors
    /// There is no compiler, or it rejects the source.
    pub fn compile(source: &Path, path: &Path, flags: &[&str]) -> Result<Self, String> {
        compile(source, path, flags)?;
        Ok(Program { path: path.to_owned() })
    }

    /// Runs the named cases, or all if none is named.
    ///
    /// # Errors
    /// The program does not start.
    pub fn run<'a>(&self, cases: impl IntoIterator<Item = &'a str>) -> Result<Outcome, String> {
        let mut command = Command::new(&self.path);
        command.args(cases).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let told = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let mut child = command.spawn().map_err(told)?;
        let pipe = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut printed = Vec::new();
            // What was read before an error is the output.
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut printed));
            String::from_utf8_lossy(&printed).into_owned()
        });
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(told)? {
                break Some(status);
            }
            if started.elapsed() > TIME_LIMIT {
                child.kill().map_err(told)?;
                child.wait().map_err(told)?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut output = reader.join().unwrap_or_default();
        match status {
            None => output.push_str("\nhangs: no end within the time limit"),
            Some(status) if status.code().is_none() => output.push_str(&format!("\ncrashes: {status}")),
            Some(_) => {}
        }
        Ok(Outcome { passed: status.is_some_and(|status| status.success()), output })
    }
}
