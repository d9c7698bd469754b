//! A race as a picture: a bar for each leg, on a time axis that all races of a list share. Knows nothing of the rest of the page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::html::{Escaped, Html, spoken};
use crate::metrics::{RaceEnd, RecentRace, ShownEnd, ShownLeg, TimeScale};

/// Widths and heights of a picture, in its own units.
const WIDTH: f64 = 640.0;
const NAMES: f64 = 96.0;
const WORDS: f64 = 190.0;
const ROW: f64 = 18.0;

/// The scale that all races of a list share.
pub(super) fn scale_of(races: &[&RecentRace]) -> TimeScale {
    let ends: Vec<Duration> = races.iter().flat_map(|race| race.legs().map(|leg| leg.ended)).collect();
    TimeScale::of(ends.iter().copied())
}

/// The place of a time in a picture.
fn x_of(scale: TimeScale, at: Duration) -> f64 {
    NAMES + scale.share(at) * (WIDTH - NAMES - WORDS)
}

/// Appends a race: its request, the reply, and the picture of its legs.
pub(super) fn put_race(html: &mut Html, race: &RecentRace, scale: TimeScale) {
    let status = race.status.map_or_else(|| "–".to_owned(), |status| status.as_u16().to_string());
    let (class, verdict) = match race.end {
        RaceEnd::Won => ("good", race.by().map_or_else(String::new, |by| format!("by {by}"))),
        RaceEnd::Lost => ("bad", "every backend failed".to_owned()),
        RaceEnd::Abandoned => ("dim", "the client left".to_owned()),
    };
    html.put(format_args!(
        "<div class=race><span class=dim>{}</span> <code>{} {}</code> <b class={class}>{status}</b> {} <span class=dim>{}</span>",
        clock(race.at),
        Escaped(&race.method),
        Escaped(&race.path),
        spoken(race.after),
        Escaped(&verdict)
    ));
    put_picture(html, race, scale);
    html.put(format_args!("</div>"));
}

/// The time of day in UTC, to the millisecond.
fn clock(at: SystemTime) -> String {
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 86_400_000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[expect(clippy::cast_precision_loss, reason = "64 legs at most")]
fn put_picture(html: &mut Html, race: &RecentRace, scale: TimeScale) {
    let legs: Vec<ShownLeg> = race.legs().collect();
    let height = ROW * legs.len() as f64;
    let title = legs.iter().map(|leg| format!("{} {}", leg.backend, word_of(leg.end))).collect::<Vec<_>>().join(", ");
    html.put(format_args!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"{}\">", Escaped(&title)));
    let won = race.winner.map(|winner| legs[winner].ended);
    if let (Some(won), Some(next)) = (won, next_success(&legs, race.winner)) {
        let (from, to) = (x_of(scale, won), x_of(scale, next));
        html.put(format_args!(
            "<rect class=shade x={from:.1} y=0 width={:.1} height={height} />",
            (to - from).max(0.0)
        ));
    }
    for (number, leg) in legs.iter().enumerate() {
        put_leg(html, leg, ROW * number as f64, race.winner == Some(number), won, scale);
    }
    if let Some(won) = won {
        let x = x_of(scale, won);
        html.put(format_args!("<line class=cut x1={x:.1} x2={x:.1} y1=0 y2={height} />"));
    }
    html.put(format_args!("</svg>"));
}

/// When the next success after the winner's came.
fn next_success(legs: &[ShownLeg], winner: Option<usize>) -> Option<Duration> {
    let is_late = |(number, leg): &(usize, &ShownLeg)| Some(*number) != winner && leg.is_success;
    legs.iter().enumerate().filter(is_late).map(|(_, leg)| leg.ended).min()
}

fn put_leg(html: &mut Html, leg: &ShownLeg, y: f64, has_won: bool, won: Option<Duration>, scale: TimeScale) {
    let (middle, top, bar) = (y + ROW / 2.0 + 4.0, y + 4.0, ROW - 8.0);
    html.put(format_args!("<text x=0 y={middle}>{}</text>", Escaped(&cut(leg.backend))));
    let Some(started) = leg.started else {
        return html.put(format_args!("<text class=dim x={NAMES} y={middle}>not needed</text>"));
    };
    let (from, to) = (x_of(scale, started), x_of(scale, leg.ended));
    let verdict = won.map_or(to, |won| x_of(scale, won)).clamp(from, to);
    // Until then it waited for its time, or for others to fail. To start legs takes some microseconds itself.
    if started >= Duration::from_millis(1) {
        let before = from - NAMES;
        html.put(format_args!("<rect class=pale x={NAMES} y={top} width={before:.1} height={bar} rx=2 />"));
    }
    let class = if has_won {
        "win"
    } else if leg.is_success || leg.end == ShownEnd::Word("cancelled") {
        "bar"
    } else {
        "fail"
    };
    html.put(format_args!(
        "<rect class={class} x={from:.1} y={top} width={:.1} height={bar} rx=2 />",
        (verdict - from).max(1.5)
    ));
    if to > verdict {
        html.put(format_args!(
            "<rect class=pale x={verdict:.1} y={top} width={:.1} height={bar} rx=2 />",
            to - verdict
        ));
    }
    let word = word_of(leg.end);
    let told = match won {
        _ if has_won => format!("▶ {word} won"),
        Some(won) if leg.is_success => format!("{word} late, {} behind", spoken(leg.ended.saturating_sub(won))),
        _ if leg.end == ShownEnd::Word("cancelled") => "hung up on".to_owned(),
        _ => format!("✕ {word} ({})", spoken(leg.ended)),
    };
    html.put(format_args!("<text x={:.1} y={middle}>{}</text>", to + 6.0, Escaped(&told)));
}

fn word_of(end: ShownEnd) -> String {
    match end {
        ShownEnd::Status(status) => status.to_string(),
        ShownEnd::Word(word) => word.to_owned(),
    }
}

/// A backend's name, as much of it as the picture has room for.
fn cut(name: &str) -> String {
    const CHARS_MAX: usize = 13;
    if name.chars().count() <= CHARS_MAX {
        return name.to_owned();
    }
    name.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode};

    use super::*;
    use crate::message::{Outcome, RequestId, Target};
    use crate::metrics::{LegEnd, RecentRaces};

    #[test]
    fn a_leg_that_starts_late_has_a_pale_bar_before_it_and_one_that_never_does_none() {
        let target = Target::parse(&Method::GET, "/").expect("a target");
        let id = RequestId::of(&HeaderMap::new());
        let mut race = RecentRace::new(id.clone(), UNIX_EPOCH, &Method::GET, &target, RaceEnd::Won);
        let ok = Outcome::Status(StatusCode::OK);
        let millis = Duration::from_millis;
        let end = |outcome, started, ended| LegEnd {
            outcome,
            has_won: *outcome == ok,
            is_success: *outcome == ok,
            started: millis(started),
            ended: millis(ended),
        };
        let ends = [
            (Some(millis(0)), end(&Outcome::Timeout, 0, 90)),
            (Some(millis(40)), end(&ok, 40, 60)),
            (None, end(&Outcome::Unneeded, 0, 0)),
        ];
        race.set_legs(ends.iter().map(|(started, end)| (*started, end)));
        race.winner = Some(1);
        let recent = RecentRaces::default();
        recent.keep(race, ["b1", "b2", "b3"].map(str::to_owned).to_vec(), false);
        let race = recent.of(id.as_str()).expect("it is kept");
        let mut html = Html::default();
        put_race(&mut html, &race, scale_of(&[&race]));
        let html = html.into_string();
        let before = format!("<rect class=pale x={NAMES} ");
        assert_eq!(html.matches(&before).count(), 1, "{html}");
        let (second, third) = (html.find(">b2<").expect("b2"), html.find(">b3<").expect("b3"));
        assert!((second..third).contains(&html.find(&before).expect("a bar")));
        assert!(html[third..].contains("not needed"));
    }
}
