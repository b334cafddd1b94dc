//! The machine that is measured, and what its kernel counts.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::{Value, json};

/// Set in the copy of this program that runs in a network namespace of its own.
const INSIDE: &str = "BENCH_HAS_NAMESPACE";

/// Runs this program again in a network namespace of its own, where the machine allows it: what goes over loopback
/// there is the measured nodes' alone. `None` inside it, and where there is none.
pub(crate) fn in_own_namespace() -> Option<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let allowed = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("no network namespaces here: bytes on the wire are those of the whole machine's loopback");
        return None;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let status = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status();
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Some(ExitCode::from(code))
}

/// What a figure depends on.
pub(crate) fn describe(directory: &Path) -> Value {
    let cpu = first_line("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let file_system = Command::new("stat").args(["-f", "-c", "%T"]).arg(directory).output();
    let file_system = file_system.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    json!({
        "cpu": cpu,
        "cores": cores,
        "kernel": kernel,
        "file_system": file_system.unwrap_or_default(),
        "build": if cfg!(debug_assertions) { "development" } else { "release" },
        "own_loopback": std::env::var_os(INSIDE).is_some(),
    })
}

fn first_line(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Bytes that have gone over the loopback interface, with all headers.
pub(crate) fn loopback_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Time that a process has spent on CPUs, with its threads that have ended.
pub(crate) fn cpu_time(process: u32) -> Duration {
    // The kernel's unit here is 10 ms on every platform that this runs on.
    const TICK: Duration = Duration::from_millis(10);
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses, and may hold spaces.
    let fields: Vec<&str> =
        text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    TICK * (ticks(11) + ticks(12))
}

/// The same to the nanosecond, of its threads that run now: for a process that does next to nothing.
pub(crate) fn cpu_time_of_threads(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Time that this thread has spent on a CPU: what a core can do doesn't depend on who else wants it.
pub(crate) fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Bytes of memory, by the name that the kernel gives them (`VmRSS`, `VmHWM`).
pub(crate) fn memory(process: u32, name: &str) -> u64 {
    let line = first_line(&format!("/proc/{process}/status"), name).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
