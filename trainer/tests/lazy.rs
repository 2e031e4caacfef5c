//! Lazy archives, against a library of the test's own: linked as the build script links them, run with and without it.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

#[path = "../build/lazy.rs"]
mod lazy;

use lazy::{Library, symbols};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const LIST: &str = "mix status\nword text\ncount number\nnewer status\nnewer_word text\n";

const LIBRARY: &str = r#"
long mix(long a, long b, long c, long d, long e, long f, long g, long h, double x, float y, double *out) {
  *out = x * 1000 + y;
  return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}
const char *word(void) { return "real"; }
unsigned long count(void) { return 42; }
"#;

/// Eight threads make the first call at once; then each kind of function is called twice.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <stdio.h>
long mix(long, long, long, long, long, long, long, long, double, float, double *);
const char *word(void);
unsigned long count(void);
int newer(void);
const char *newer_word(void);
static void *call(void *failed) {
  double out = 0;
  long sum = mix(1, 2, 3, 4, 5, 6, 7, 8, 2.5, 0.25f, &out);
  if (sum != 204 || out != 2500.25) *(int *)failed = 1;
  return 0;
}
int main(void) {
  pthread_t threads[8];
  int failed[8] = {0}, failures = 0;
  for (int k = 0; k < 8; k++) pthread_create(&threads[k], 0, call, &failed[k]);
  for (int k = 0; k < 8; k++) pthread_join(threads[k], 0), failures += failed[k];
  double out = 0;
  for (int k = 0; k < 2; k++) {
    long sum = mix(1, 0, 0, 0, 0, 0, 0, 1, 2.5, 0.25f, &out);
    printf("%d %ld %g %s %lu %d %s\n", failures, sum, out, word(), count(), newer(), newer_word());
  }
}
"#;

fn cc(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("cc").current_dir(folder).args(arguments).output().expect("a C compiler")
}

fn compile(folder: &Path, arguments: &[&str]) {
    let output = cc(folder, arguments);
    assert!(output.status.success(), "cc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The object files of a lazy archive for the test's library, made in `folder`.
fn make_objects(folder: &Path) {
    let library = Library { name: "fake", files: vec!["libfake.so.1".into()], absent: 34, lacking: 500 };
    fs::write(folder.join("symbols.inc"), symbols(LIST).expect("a list")).expect("a file");
    let definitions: Vec<String> =
        library.definitions().iter().map(|(name, value)| format!("-D{name}={value}")).collect();
    for source in ["lazy.c", "lazy.S"] {
        let path = format!("{}/build/{source}", env!("CARGO_MANIFEST_DIR"));
        let object = format!("{source}.o");
        let mut arguments =
            vec!["-c", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I.", &path, "-o", &object];
        arguments.extend(definitions.iter().map(String::as_str));
        compile(folder, &arguments);
    }
}

fn run(folder: &Path, variables: &[(&str, String)]) -> String {
    let mut command = Command::new(folder.join("program"));
    command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().expect("the program");
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_program_starts_without_the_library_and_calls_it_where_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    make_objects(folder);
    fs::write(folder.join("program.c"), PROGRAM).unwrap();
    compile(folder, &["program.c", "lazy.c.o", "lazy.S.o", "-pthread", "-ldl", "-o", "program"]);

    let none = "8 34 0 a CUDA library cannot be opened or lacks a function 0 34 \
                a CUDA library cannot be opened or lacks a function\n";
    let nowhere = folder.join("nowhere").display().to_string();
    assert_eq!(run(folder, &[]), none.repeat(2));
    assert_eq!(run(folder, &[("THIMBLE_CUDA_LIBS", nowhere.clone())]), none.repeat(2));
    assert_eq!(run(folder, &[("THIMBLE_CUDA_LIBS", "/".repeat(5000))]), none.repeat(2));

    let wheel = folder.join("venv/lib/python3.11/site-packages/nvidia/cu13/lib");
    fs::create_dir_all(&wheel).unwrap();
    fs::write(folder.join("library.c"), LIBRARY).unwrap();
    compile(
        folder,
        &["-shared", "-fPIC", "library.c", "-o", &wheel.join("libfake.so.1").display().to_string()],
    );
    let real = "0 9 2500.25 real 42 500 a CUDA library cannot be opened or lacks a function\n".repeat(2);
    let venv = folder.join("venv").display().to_string();
    assert_eq!(run(folder, &[]), none.repeat(2));
    assert_eq!(run(folder, &[("LD_LIBRARY_PATH", wheel.display().to_string())]), real);
    assert_eq!(run(folder, &[("THIMBLE_CUDA_LIBS", format!(":{nowhere}:{}", wheel.display()))]), real);
    assert_eq!(
        run(folder, &[("THIMBLE_CUDA_LIBS", format!("{venv}/lib/*/site-packages/nvidia/*/lib"))]),
        real
    );
    assert_eq!(run(folder, &[("VIRTUAL_ENV", venv)]), real);

    // A file of that name that is no library is passed over.
    let broken = folder.join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("libfake.so.1"), "not a library").unwrap();
    assert_eq!(run(folder, &[("THIMBLE_CUDA_LIBS", broken.display().to_string())]), none.repeat(2));
}

#[test]
fn a_function_that_is_not_listed_is_an_error_of_the_linker() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    make_objects(folder);
    fs::write(folder.join("program.c"), "int unlisted(void);\nint main(void) { return unlisted(); }\n")
        .unwrap();
    let output = cc(folder, &["program.c", "lazy.c.o", "lazy.S.o", "-pthread", "-ldl", "-o", "program"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("unlisted"));
}

#[test]
fn lists_are_checked() {
    assert_eq!(
        symbols("cuInit status\ntext_of text").unwrap(),
        "SYMBOL(0, cuInit, status)\nSYMBOL(1, text_of, text)\n"
    );
    for (list, place) in [
        ("", "none"),
        ("cuInit", "line 1"),
        ("a status\nb float", "line 2"),
        ("a-b status", "line 1"),
        ("1a text", "line 1"),
    ] {
        let problem = symbols(list).unwrap_err();
        assert!(problem.contains(place), "{list:?}: {problem}");
    }
    for name in ["cuda", "cublas", "cublasLt", "curand", "nvrtc"] {
        let path = format!("{}/cuda/symbols/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        symbols(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|problem| panic!("{path}, {problem}"));
    }
}
