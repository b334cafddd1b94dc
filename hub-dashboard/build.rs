//! Builds the till page with Node.js, from its lockfile, into this crate's output folder.
//!
//! The source tree is only read: sources are copied beside `node_modules`, which stays in cargo's target folder under the
//! lockfile's name, so that debug, release and clippy install it once. Without Node.js or the registry the program still
//! builds, with a page that says so; under `CI=true` its test fails then.
#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The page's folder beside this file.
const SOURCES: &str = "till";
/// What the build must make, and the media types.
const FILES: &[(&str, &str)] = &[
    ("index.html", "text/html; charset=utf-8"),
    ("till.js", "text/javascript; charset=utf-8"),
    ("till.css", "text/css; charset=utf-8"),
];

type Outcome<T> = Result<T, String>;

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo:rerun-if-changed=build.rs");
    let shared = target_folder(&out).join("till-page");
    let made = sources().and_then(|sources| build(&sources, &shared, &out));
    let table = match made {
        Ok(site) => {
            // For tests/page.rs.
            println!("cargo:rustc-env=TILL_WORK={}", out.join("till-work").display());
            FILES
                .iter()
                .map(|(name, kind)| {
                    let path = if *name == "index.html" { "/till".to_owned() } else { format!("/till/{name}") };
                    format!("({path:?}, {kind:?}, include_bytes!({:?})),\n", site.join(name).display().to_string())
                })
                .collect()
        }
        Err(why) => {
            println!("cargo:warning=the till page was left out: {why}");
            if let Ok(marker) = mark_left_out(&shared, &why) {
                println!("cargo:rerun-if-changed={}", marker.display());
            }
            let page = out.join("left-out.html");
            fs::write(&page, left_out(&why)).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            format!("(\"/till\", {:?}, include_bytes!({:?})),\n", FILES[0].1, page.display().to_string())
        }
    };
    let code = format!("&[\n{table}]\n");
    fs::write(out.join("till.rs"), code).unwrap_or_else(|error| panic!("till.rs: {error}"));
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Says in the target folder that the page was left out. Once that file is newer than this run, cargo runs it again:
/// tests/run touches it where it has installed Node.js since.
fn mark_left_out(shared: &Path, why: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(shared)?;
    let marker = shared.join("left-out");
    fs::write(&marker, why)?;
    File::options().write(true).open(&marker)?.set_modified(SystemTime::UNIX_EPOCH)?;
    Ok(marker)
}

/// Cargo's target folder, which it marks; the output folder where it doesn't.
fn target_folder(out: &Path) -> &Path {
    out.ancestors().filter(|folder| folder.join("CACHEDIR.TAG").exists()).last().unwrap_or(out)
}

/// The page's sources, by their paths below its folder. Cargo runs this again when one changes, comes or goes.
fn sources() -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(SOURCES)];
    while let Some(folder) = open.pop() {
        println!("cargo:rerun-if-changed={}", folder.display());
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.file_name().is_some_and(|name| name == "node_modules") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                println!("cargo:rerun-if-changed={}", path.display());
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Builds the page; the folder that it is in.
fn build(sources: &[PathBuf], shared: &Path, out: &Path) -> Outcome<PathBuf> {
    run(Command::new("node").arg("--version"))?;
    let modules = install(shared)?;
    let work = out.join("till-work");
    let site = out.join("till-site");
    remake(&work).and_then(|()| remake(&site)).map_err(|error| error.to_string())?;
    for source in sources {
        let to = work.join(source.strip_prefix(SOURCES).unwrap_or(source));
        let folder = to.parent().unwrap_or(&work);
        fs::create_dir_all(folder)
            .and_then(|()| fs::copy(source, &to).map(|_| ()))
            .map_err(|error| format!("{}: {error}", to.display()))?;
    }
    link(&modules, &work.join("node_modules")).map_err(|error| format!("node_modules: {error}"))?;
    let vite = work.join("node_modules/vite/bin/vite.js");
    run(Command::new("node")
        .arg(vite)
        .args(["build", "--logLevel", "warn", "--outDir"])
        .arg(&site)
        .current_dir(&work))?;
    match FILES.iter().find(|(name, _)| !site.join(name).exists()) {
        Some((name, _)) => Err(format!("vite made no {name}")),
        None => Ok(site),
    }
}

/// What the lockfile names, installed once for all profiles.
fn install(shared: &Path) -> Outcome<PathBuf> {
    let lockfile = Path::new(SOURCES).join("package-lock.json");
    let mut hasher = DefaultHasher::new();
    fs::read(&lockfile).map_err(|error| format!("{}: {error}", lockfile.display()))?.hash(&mut hasher);
    let folder = shared.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Two builds may come here at once: the second waits, and finds it done.
    let lock = File::create(folder.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let (done, modules) = (folder.join("installed"), folder.join("node_modules"));
    if !done.exists() {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(Path::new(SOURCES).join(name), folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        }
        run(Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&folder))?;
        File::create(&done).map_err(|error| error.to_string())?;
    }
    Ok(modules)
}

fn remake(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn run(command: &mut Command) -> Outcome<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let last: Vec<&str> = std::str::from_utf8(&said).unwrap_or_default().lines().rev().take(6).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{name} ended with {}: {}", output.status, last.join(" | ")))
}

/// The page of a program that was built without the till.
fn left_out(why: &str) -> String {
    let why = why.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Till</title>\
         <link rel=\"stylesheet\" href=\"/dashboard.css\"></head>\n<body><main><section><h1>This program was built \
         without the till page</h1>\n<p>The page is built with Node.js 18 or newer and its packages, and they could not \
         be had: {why}</p>\n<p>The rest of the program is whole. To build the till too: install Node.js and npm, then \
         <code>touch hub-dashboard/build.rs</code> and build again.</p></section></main></body>\n</html>\n"
    )
}
