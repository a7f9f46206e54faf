//! `keylatch top`: locks, waiters and claims, live.

use super::exit;
use super::exit::print;
use super::list::{age, claim_owner, claim_since, claim_text, every, fail, mode, resource_shown};
use super::options::{ClientOptions, FilterOptions, safe, shown};
use crate::client::{ClientError, Http};
use crate::server::claim_rows::ClaimRow;
use crate::server::wire::{HealthBody, LockRow, WaiterRow};
use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Shows locks, waiters and claims live; q ends it.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0)]
    interval: f64,
    /// Looks once and prints what it sees
    #[arg(long)]
    once: bool,
}

/// What one look saw.
#[derive(Debug, serde::Serialize)]
struct Look {
    health: HealthBody,
    locks: Vec<LockRow>,
    waiters: Vec<WaiterRow>,
    claims: Vec<ClaimRow>,
}

/// Runs `top`. Returns the exit status.
pub(super) async fn run(args: TopArgs) -> u8 {
    let http = match args.client.http() {
        Ok(http) => http,
        Err(error) => return fail(&error),
    };
    if args.once || args.client.json || !std::io::stdout().is_terminal() {
        return match look(&http, &args.filter).await {
            Ok(seen) => print(as_text(&seen, args.client.json).as_bytes()),
            Err(error) => fail(&error),
        };
    }
    let mut terminal = ratatui::init();
    let interval = Duration::try_from_secs_f64(args.interval.max(0.1)).unwrap_or(Duration::from_secs(1));
    let ended = loop {
        let seen = look(&http, &args.filter).await;
        let drawn = terminal.draw(|frame| match &seen {
            Ok(seen) => draw(frame, seen),
            Err(error) => frame.render_widget(Paragraph::new(format!("{error}\nq ends")), frame.area()),
        });
        if let Err(error) = drawn {
            break exit::say(exit::SYSTEM, format_args!("{error}"));
        }
        match wants_to_end(interval) {
            Ok(true) => break 0,
            Ok(false) => {}
            Err(error) => break exit::say(exit::SYSTEM, format_args!("{error}")),
        }
    };
    ratatui::restore();
    ended
}

/// Waits for a key, at most so long.
fn wants_to_end(interval: Duration) -> std::io::Result<bool> {
    if !poll(interval)? {
        return Ok(false);
    }
    let Event::Key(key) = read()? else { return Ok(false) };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let is_end = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || is_interrupt;
    Ok(key.kind == KeyEventKind::Press && is_end)
}

async fn look(http: &Http, filter: &FilterOptions) -> Result<Look, ClientError> {
    let health = http.get("/healthz").await?;
    let mut locks: Vec<LockRow> = every(http, "/v1/locks", filter).await?;
    let waiters = every(http, "/v1/waiters", filter).await?;
    let claims = every(http, "/v1/claims", filter).await?;
    locks.sort_by_key(|row| std::cmp::Reverse(row.held_ms));
    Ok(Look { health, locks, waiters, claims })
}

fn as_text(seen: &Look, json: bool) -> String {
    if json {
        return serde_json::to_string_pretty(seen).unwrap_or_default() + "\n";
    }
    let locks: String = seen.locks.iter().map(|row| super::list::lock_line(row) + "\n").collect();
    let waiters: String = seen.waiters.iter().map(|row| super::list::waiter_line(row) + "\n").collect();
    let claims: String = seen.claims.iter().map(|row| super::list::claim_line(row) + "\n").collect();
    format!("{}\n\nheld\n{locks}\nwaiting\n{waiters}\nclaims\n{claims}", headline(&seen.health))
}

fn headline(health: &HealthBody) -> String {
    format!(
        "{}: epoch {}, up {}, {} sessions, {} held, {} waiting; {} claimed, {} waiting for those",
        health.status,
        health.epoch,
        age(health.uptime_ms),
        health.sessions,
        health.holders,
        health.waiters,
        health.claims,
        health.claim_waiters
    )
}

fn draw(frame: &mut Frame<'_>, seen: &Look) {
    let thirds = [Constraint::Length(1), Constraint::Fill(3), Constraint::Fill(2), Constraint::Fill(2)];
    let [head, held, waiting, claimed] = Layout::vertical(thirds).areas(frame.area());
    frame.render_widget(Paragraph::new(headline(&seen.health) + "   (q ends)"), head);
    let locks = seen.locks.iter().map(|row| {
        [
            shown(&row.item),
            mode(row.item.mode).into(),
            age(row.held_ms),
            safe(&row.owner),
            row.fence.to_string(),
            row.presence.to_string(),
        ]
    });
    frame.render_widget(table("held", ["key", "mode", "age", "owner", "fence", "client"], locks), held);
    let waiters = seen.waiters.iter().map(|row| {
        [
            shown(&row.item),
            mode(row.item.mode).into(),
            age(row.waited_ms),
            safe(&row.owner),
            row.place.to_string(),
            row.presence.to_string(),
        ]
    });
    frame.render_widget(table("waiting", ["key", "mode", "since", "owner", "place", "client"], waiters), waiting);
    let claims = seen.claims.iter().map(|row| {
        [
            resource_shown(&row.resource),
            row.state.to_string(),
            age(claim_since(row)),
            claim_owner(row),
            claim_text(row),
            row.waiting.to_string(),
        ]
    });
    frame.render_widget(table("claims", ["resource", "state", "age", "owner", "work", "waiting"], claims), claimed);
}

fn table<'a>(title: &'a str, heads: [&'a str; 6], rows: impl Iterator<Item = [String; 6]>) -> Table<'a> {
    let widths = [
        Constraint::Fill(3),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Fill(2),
        Constraint::Length(16),
        Constraint::Length(8),
    ];
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let rows = rows.map(|cells| Row::new(cells.map(Cell::from)));
    Table::new(rows, widths).header(Row::new(heads).style(bold)).block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::{ItemBody, ModeWord};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn screen_shows_holders_waiters_and_claims() {
        let item = ItemBody { bucket: "b".into(), object: "x".into(), version: None, mode: ModeWord::Exclusive };
        let health = HealthBody {
            status: "ok".into(),
            epoch: 3,
            uptime_ms: 5_000,
            quiet_ms: 0,
            sessions: 2,
            holders: 1,
            waiters: 1,
            claims: 1,
            claim_waiters: 2,
        };
        let lock = LockRow {
            item: item.clone(),
            owner: "node-7\u{1b}".into(),
            session: "3.1".into(),
            request_id: 1,
            grant: "3.9".into(),
            fence: 9,
            held_ms: 61_000,
            presence: "attached".into(),
        };
        let waiter = WaiterRow {
            item,
            owner: "node-8".into(),
            session: "3.2".into(),
            request_id: 1,
            place: 1,
            waited_ms: 100,
            presence: "cut".into(),
        };
        let claim: ClaimRow = serde_json::from_value(serde_json::json!({
            "resource": {"bucket": "layers", "object": "l"}, "state": "owned", "waiters": [], "waiting": 2,
            "owned_by": {
                "owner": "node-9", "session": "3.3", "request_id": 1, "grant": "3.10", "fence": 10, "attempt": 2,
                "owned_ms": 7_000, "progress": {"done": 3, "total": 4, "address": ""},
            },
        }))
        .unwrap();
        let mut terminal = Terminal::new(TestBackend::new(100, 18)).unwrap();
        let seen = Look { health, locks: vec![lock], waiters: vec![waiter], claims: vec![claim] };
        terminal.draw(|frame| draw(frame, &seen)).unwrap();
        let screen = terminal.backend().to_string();
        for text in [
            "epoch 3",
            "b/x",
            "node-7\\u{1b}",
            "61s",
            "node-8",
            "cut",
            "1 claimed",
            "layers/l",
            "node-9",
            "attempt 2",
            "75%",
        ] {
            assert!(screen.contains(text), "{text} in {screen}");
        }
    }
}
