//! The live view on a terminal: steps, nodes, links, and where each sale is. Plain control sequences on the alternate
//! screen; only lines that changed are written, so nothing flickers. The terminal is given back however the demo ends.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;
use terminal_size::{Height, Width, terminal_size};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::board::{Board, STEPS, Seat, State, Step};
use crate::cli::client;

/// How often nodes are asked, at most: they have other things to do.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// A node that doesn't answer in this time is shown as it was.
const ASK_WITHIN: Duration = Duration::from_millis(800);
/// So often everything is written anew, whatever else has written to the terminal.
const REPAINT_EVERY: u32 = 10;

/// Alternate screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The running view.
pub(super) struct View {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _screen: Screen,
}

/// The terminal while it is ours.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |information| {
            leave();
            before(information);
        }));
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(Screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    let mut out = io::stdout().lock();
    let _ = out.write_all(LEAVE.as_bytes());
    let _ = out.flush();
}

impl View {
    /// Takes the terminal, and shows the board until [`View::end`].
    pub(super) fn start(board: Board) -> io::Result<Self> {
        let resized = signal(SignalKind::window_change())?;
        let screen = Screen::enter()?;
        let (stop, stopped) = oneshot::channel();
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let task = tokio::spawn(show(board, resized, stopped, colours));
        Ok(View { stop: Some(stop), task, _screen: screen })
    }

    /// Gives the terminal back.
    pub(super) async fn end(mut self) {
        drop(self.stop.take());
        let _ = (&mut self.task).await;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn show(
    board: Board,
    mut resized: tokio::signal::unix::Signal,
    mut stopped: oneshot::Receiver<()>,
    colours: bool,
) {
    let mut statuses: BTreeMap<usize, Value> = BTreeMap::new();
    let mut shown: Vec<String> = Vec::new();
    let (mut size, mut frames) = ((0, 0), 0_u32);
    loop {
        let state = board.snapshot();
        let now = terminal_size().map_or((80, 24), |(Width(width), Height(height))| (width, height));
        if now != size || frames % REPAINT_EVERY == 0 {
            shown.clear();
            size = now;
        }
        frames = frames.wrapping_add(1);
        // The last column stays free: erasing the rest of a line that fills it would take its last character.
        let width = usize::from(size.0).saturating_sub(1);
        let frame = compose(&state, &statuses, width, usize::from(size.1), colours);
        if paint(&mut shown, frame).is_err() {
            return;
        }
        let asked = tokio::time::Instant::now();
        let wait = async {
            ask_all(&state.seats, &mut statuses).await;
            // On a machine that is busy the asking itself must not be what keeps it busy.
            tokio::time::sleep_until(asked + ASK_EVERY.max(asked.elapsed() * 4)).await;
        };
        tokio::select! {
            () = wait => {}
            _ = resized.recv() => {}
            _ = &mut stopped => return,
        }
    }
}

async fn ask_all(seats: &[Seat], statuses: &mut BTreeMap<usize, Value>) {
    let running = seats.iter().enumerate().filter(|(_, seat)| seat.runs);
    let answers = running.map(|(index, seat)| async move {
        let asking = client::ask(&seat.directory, "GET", "/v1/status", None);
        let answer = tokio::time::timeout(ASK_WITHIN, asking).await;
        Some((index, answer.ok()?.ok()?))
    });
    let answers = futures::future::join_all(answers).await;
    statuses.extend(answers.into_iter().flatten());
}

/// Writes the lines that differ from what is shown.
fn paint(shown: &mut Vec<String>, frame: Vec<String>) -> io::Result<()> {
    // The terminal shows everything between the two marks at once, where it knows them.
    let mut bytes = String::from("\x1b[?2026h");
    for (row, line) in frame.iter().enumerate() {
        if shown.get(row) != Some(line) {
            bytes.push_str(&format!("\x1b[{};1H{line}\x1b[0m\x1b[K", row + 1));
        }
    }
    bytes.push_str("\x1b[?2026l");
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_bytes())?;
    out.flush()?;
    *shown = frame;
    Ok(())
}

/// Text with colours, and how wide it is without them.
struct Line {
    text: String,
    width: usize,
    most: usize,
    colours: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";

impl Line {
    fn new(most: usize, colours: bool) -> Self {
        Line { text: String::new(), width: 0, most, colours }
    }

    /// Appends what still fits.
    fn add(mut self, style: &str, text: &str) -> Self {
        let fits: String =
            text.chars().filter(|character| !character.is_control()).take(self.most - self.width).collect();
        self.width += fits.chars().count();
        if style.is_empty() || !self.colours {
            self.text.push_str(&fits);
        } else {
            self.text.push_str(&format!("\x1b[{style}m{fits}\x1b[0m"));
        }
        self
    }

    fn pad_to(self, column: usize) -> Self {
        let spaces = " ".repeat(column.saturating_sub(self.width));
        self.add("", &spaces)
    }
}

/// How many of a node's sales are where.
#[derive(Clone, Copy, Default)]
struct Places {
    here: u64,
    copied: u64,
    hub: u64,
    settled: u64,
}

impl Places {
    fn of(status: &Value) -> Self {
        let number = |field: &str| status["sales"][field].as_u64().unwrap_or(0);
        let (copied, hub, settled) = (number("copied"), number("at_the_hub"), number("settled"));
        Places { here: number("recorded").saturating_sub(copied + hub + settled), copied, hub, settled }
    }

    fn all(&self) -> u64 {
        self.here + self.copied + self.hub + self.settled
    }

    fn parts(&self) -> [(u64, &'static str, &'static str); 4] {
        [(self.settled, "█", GREEN), (self.hub, "▓", BLUE), (self.copied, "▒", YELLOW), (self.here, "░", RED)]
    }
}

/// The whole picture, line by line.
fn compose(
    state: &State,
    statuses: &BTreeMap<usize, Value>,
    width: usize,
    height: usize,
    colours: bool,
) -> Vec<String> {
    let line = || Line::new(width, colours);
    let mut lines = vec![title(state, line()).text, steps(state, line()).text, String::new()];
    let rows = nodes(state, statuses, width, colours);
    // The last proofs get what room there is, and at least a third.
    let room = height.saturating_sub(lines.len() + 3);
    let least = room / 3;
    let for_nodes = rows.len().min(room.saturating_sub(least));
    if for_nodes < rows.len() && for_nodes > 1 {
        lines.extend(rows.iter().take(for_nodes - 1).cloned());
        lines.push(line().add(DIM, &format!("… and {} nodes more", rows.len() + 1 - for_nodes)).text);
    } else {
        lines.extend(rows.into_iter().take(for_nodes));
    }
    lines.push(legend(line()).text);
    lines.push(String::new());
    let room = height.saturating_sub(lines.len() + usize::from(!state.dashboard.is_empty()));
    let proofs: Vec<String> =
        state.lines.iter().flat_map(|line| line.lines()).flat_map(|text| wrap(text, width)).collect();
    for text in &proofs[proofs.len().saturating_sub(room)..] {
        let heading = text.starts_with(|first: char| first.is_ascii_digit());
        lines.push(line().add(if heading { BOLD } else { "" }, text).text);
    }
    while lines.len() + 1 < height {
        lines.push(String::new());
    }
    if !state.dashboard.is_empty() {
        lines.truncate(height.saturating_sub(1));
        let whole = format!("Dashboard {}", state.dashboard);
        // An address that is cut leads nowhere.
        let fits = whole.chars().count() <= width;
        let short = format!("{} (with the token: see hub/api.url)", whole.split("?token").next().unwrap_or_default());
        lines.push(line().add(DIM, if fits { &whole } else { &short }).text);
    }
    lines.truncate(height);
    lines
}

fn title(state: &State, line: Line) -> Line {
    let seconds = state.started.elapsed().as_secs();
    let stalls = state.seats.iter().filter(|seat| seat.name.starts_with("stall-") && !seat.name.ends_with("copy"));
    line.add(BOLD, "Stallmesh")
        .add("", &format!("  Quay Market, {} stalls, on {}", stalls.count(), state.network))
        .add(DIM, &format!("   {:02}:{:02}", seconds / 60, seconds % 60))
}

fn steps(state: &State, mut line: Line) -> Line {
    for (number, ((name, _), step)) in STEPS.iter().zip(&state.steps).enumerate() {
        let (mark, style) = match step {
            Step::Waiting => ("· ", DIM),
            Step::Running(_) => ("▸ ", BOLD),
            Step::Done(_) => ("✓ ", GREEN),
            Step::Failed => ("✗ ", RED),
        };
        line = line.add("", if number == 0 { "" } else { "   " }).add(style, &format!("{mark}{name}"));
        line = match step {
            Step::Running(since) => line.add(DIM, &format!(" {:.1} s", since.elapsed().as_secs_f64())),
            Step::Done(took) => line.add(DIM, &format!(" {:.1} s", took.as_secs_f64())),
            Step::Waiting | Step::Failed => line,
        };
    }
    line
}

/// One letter or digit for a node, to head its column: H, G, 1 to 9, then letters.
fn initial(seat: &Seat) -> char {
    let number = seat.name.strip_prefix("stall-").and_then(|rest| rest.parse::<u32>().ok());
    match (number, seat.name.as_str()) {
        (Some(number), _) => char::from_digit(number, 36).unwrap_or('?'),
        (None, "hub") => 'H',
        (None, "gateway") => 'G',
        (None, "helper") => '+',
        (None, _) => '\'',
    }
}

fn nodes(state: &State, statuses: &BTreeMap<usize, Value>, width: usize, colours: bool) -> Vec<String> {
    let device_of = |index: usize| statuses.get(&index).and_then(|status| status["device"].as_str());
    let columns: String = state.seats.iter().map(initial).collect();
    let stall_width = state.seats.iter().map(|seat| seat.stall.chars().count()).max().unwrap_or(0).clamp(5, 20);
    let (at_stall, at_uplink) = (16, 18 + stall_width);
    let at_links = at_uplink + 8;
    let at_sales = at_links + columns.chars().count().max(5) + 2;
    let bar = width.saturating_sub(at_sales + 8).min(40);
    let head = Line::new(width, colours).add(DIM, "  node").pad_to(at_stall).add(DIM, "stall").pad_to(at_uplink);
    let head = head.add(DIM, "uplink").pad_to(at_links).add(DIM, &columns).pad_to(at_sales).add(DIM, "  sales");
    let mut rows = vec![head.text];
    for (index, seat) in state.seats.iter().enumerate() {
        let line = Line::new(width, colours);
        let line = line.add(DIM, &initial(seat).to_string()).add("", " ").add("", &seat.name).pad_to(at_stall);
        let line = line.add("", &seat.stall.chars().take(stall_width).collect::<String>()).pad_to(at_uplink);
        let Some(status) = statuses.get(&index).filter(|_| seat.runs) else {
            let places = statuses.get(&index).map(Places::of).unwrap_or_default();
            let line = line.add(RED, seat.gone).pad_to(at_sales);
            rows.push(sales_bar(line, places, bar).text);
            continue;
        };
        let up = status["uplink"]["up"] == true && index > 0;
        let line = if up { line.add(GREEN, "up") } else { line.add(DIM, if index == 0 { "" } else { "-" }) };
        let mut line = line.pad_to(at_links);
        let peers: Vec<(&str, bool)> = status["peers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|peer| (peer["device"].as_str().unwrap_or_default(), peer["link"] == "uplink"))
            .collect();
        for other in 0..state.seats.len() {
            let device = device_of(other).unwrap_or("-");
            let seat = &state.seats[other];
            line = match peers.iter().find(|(peer, _)| *peer == device) {
                Some(_) if !seat.runs || other == index => line.add("", " "),
                Some((_, true)) => line.add(GREEN, "▲"),
                Some((_, false)) => line.add(BLUE, "●"),
                None => line.add(DIM, if other == index { "\\" } else { "·" }),
            };
        }
        let line = line.pad_to(at_sales);
        let line = match status["role"].as_str() {
            Some("stall") => sales_bar(line, Places::of(status), bar),
            Some("gateway") => {
                line.add(DIM, &format!("  carries {} sealed entries", status["custody"]["held_entries"]))
            }
            Some("hub") => line.add(DIM, &format!("  checkpoint {}", status["checkpoint"])),
            _ => line.add(DIM, "  not a member yet"),
        };
        rows.push(line.text);
    }
    rows
}

/// The number, and a bar whose parts say where the sales are; each part that isn't empty shows.
fn sales_bar(line: Line, places: Places, bar: usize) -> Line {
    let all = places.all();
    if all == 0 {
        return line.add(DIM, "      -");
    }
    let mut line = line.add("", &format!("{all:>7} "));
    let mut left = bar;
    let shown = places.parts().into_iter().filter(|(count, _, _)| *count > 0).collect::<Vec<_>>();
    for (number, (count, glyph, style)) in shown.iter().enumerate() {
        let rest = shown.len() - 1 - number;
        let share = (u128::from(*count) * bar as u128 / u128::from(all)) as usize;
        let length = if rest == 0 { left } else { share.max(1).min(left.saturating_sub(rest)) };
        line = line.add(style, &glyph.repeat(length));
        left -= length.min(left);
    }
    line
}

fn legend(line: Line) -> Line {
    let mut line = line.add(DIM, "  sales: ");
    for (glyph, style, word) in
        [("░", RED, "this device"), ("▒", YELLOW, "copied"), ("▓", BLUE, "at the hub"), ("█", GREEN, "settled")]
    {
        line = line.add(style, glyph).add(DIM, &format!(" {word}  "));
    }
    line.add(DIM, " links: ").add(BLUE, "●").add(DIM, " market  ").add(GREEN, "▲").add(DIM, " uplink")
}

/// Breaks a line at spaces; what follows is indented as the line is.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let indent: String = text.chars().take_while(|character| *character == ' ').take(width / 2).collect();
    let mut lines = Vec::new();
    let mut line = indent.clone();
    for word in text.split_whitespace() {
        let empty = line.len() == indent.len();
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, indent.clone()));
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests;
