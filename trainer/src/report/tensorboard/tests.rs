use super::*;

// Records that TensorBoard 2.21's own RecordWriter wrote of its own protobuf messages, in hexadecimal.
const VERSION: &str = "\
    1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c\
";
const RESTART: &str = "\
    0f000000000000006d532b0909000000000000044010793a0208014d142a27\
";
const STEP: &str = "\
    3e00000000000000d9d240e7090000000000000c4010ac022a300a0b0a046c6f73731500009a400a140a0d6c6561726e\
    696e675f726174651552499d390a0b0a047a65726f1500000000e95c815d\
";
const TEXT: &str = "\
    40000000000000002817f49509000000000000124010ac022a320a300a0b73616d706c652f4f6e636542170807120412\
    020801420d2a2a4f6e63652a2a2075706f6e4a080a060a0474657874a5f7196b\
";

fn hexadecimal(wall_time: f64, step: i64, what: EventKind) -> String {
    let record = Event { wall_time, step, what: Some(what) }.encode_record();
    record.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_are_those_of_tensorboards_writer() {
    assert_eq!(hexadecimal(1.5, 0, EventKind::FileVersion("brain.Event:2".into())), VERSION);
    assert_eq!(hexadecimal(2.5, 121, EventKind::SessionLog(SessionLog { status: START })), RESTART);
    let value = vec![scalar("loss", 4.8125), scalar("learning_rate", 3e-4), scalar("zero", 0.0)];
    assert_eq!(hexadecimal(3.5, 300, EventKind::Summary(Summary { value })), STEP);
    let value = vec![text("sample/Once".into(), "**Once** upon".into())];
    assert_eq!(hexadecimal(4.5, 300, EventKind::Summary(Summary { value })), TEXT);
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    // RFC 3720, B.4: 32 zero bytes.
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
}

fn names(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join(FOLDER_NAME)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_resumed_runs_file_comes_last_even_when_the_clock_went_back() {
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join(FOLDER_NAME);
    std::fs::create_dir(&folder).unwrap();
    let ahead = format!("{PREFIX}9000000000.elsewhere.7");
    std::fs::write(folder.join(&ahead), b"").unwrap();
    std::fs::write(folder.join("notes.txt"), b"").unwrap();
    EventFile::create(run.path(), 120).unwrap();
    EventFile::create(run.path(), 130).unwrap();
    let found = names(run.path());
    assert_eq!(found.len(), 4);
    assert_eq!(found[0], ahead);
    assert!(found[1].starts_with(&format!("{PREFIX}9000000001.")), "{found:?}");
    assert!(found[2].starts_with(&format!("{PREFIX}9000000002.")), "{found:?}");
    // A new run in the same folder has nothing of the old one.
    EventFile::create(run.path(), 0).unwrap();
    assert_eq!(names(run.path()).len(), 2);
}

#[test]
fn a_restart_names_the_first_step_to_forget() {
    let run = tempfile::tempdir().unwrap();
    let events = EventFile::create(run.path(), 120).unwrap();
    let bytes = std::fs::read(&events.path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let second = &bytes[length + 16..];
    let length = u64::from_le_bytes(second[..8].try_into().unwrap()) as usize;
    let event = Event::decode(&second[12..12 + length]).unwrap();
    assert_eq!(event.step, 121);
    assert_eq!(event.what, Some(EventKind::SessionLog(SessionLog { status: START })));
    assert_eq!(second.len(), length + 16);
}

#[test]
fn samples_show_as_they_are() {
    assert_eq!(escape("a_b *c* <d> & #1\nnext"), "a\\_b \\*c\\* &lt;d> &amp; \\#1  \nnext");
}
