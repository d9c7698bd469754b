//! A race as a picture: a bar for each leg, on a time axis that all races of a list share. Knows nothing of the rest of the page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::html::{Escaped, Html, spoken};
use crate::metrics::{Note, RaceEnd, RecentRace, ShownEnd, ShownLeg, TimeScale};

/// The height of a leg, in pixels, and that of its bar.
const ROW: usize = 20;
const BAR: usize = 10;
/// The legs of a race that are drawn, besides its winner's: 64 of each race would be a page of half a megabyte.
const LEGS_MAX: usize = 12;

/// The scale that all races of a list share.
pub(super) fn scale_of(races: &[&RecentRace]) -> TimeScale {
    let ends: Vec<Duration> = races.iter().flat_map(|race| race.legs().map(|leg| leg.ended)).collect();
    TimeScale::of(ends.iter().copied())
}

/// The place of a time in a picture, in hundredths of its width.
fn x_of(scale: TimeScale, at: Duration) -> f64 {
    100.0 * scale.share(at)
}

/// What pictures have in common: the hatch of a leg that outlives the verdict, and the marks of a winner and of a failure.
pub(super) fn put_marks(html: &mut Html) {
    html.put(format_args!(
        "<svg class=marks aria-hidden=true><defs><pattern id=hatch width=5 height=5 patternUnits=userSpaceOnUse \
         patternTransform=\"rotate(45)\"><rect class=pale width=5 height=5 /><rect class=bar width=1.5 height=5 /></pattern>\
         <path id=won class=win d=\"M-1 2l11 8-11 8z\" /><path id=failed class=cross d=\"M-4 6l8 8m0-8l-8 8\" /></defs></svg>"
    ));
}

/// Appends the axis of a list.
pub(super) fn put_axis(html: &mut Html, scale: TimeScale) {
    html.put(format_args!("<div class=\"legs axis\" aria-hidden=true><div></div><svg height=16><text y=12>0</text>"));
    for tick in scale.ticks() {
        html.put(format_args!("<text x={:.1}% y=12 class=mid>{}</text>", x_of(scale, tick), spoken(tick)));
    }
    html.put(format_args!("</svg><div></div></div>"));
}

/// Appends a race: its request, the reply, and the picture of its legs.
pub(super) fn put_race(html: &mut Html, race: &RecentRace, scale: TimeScale) {
    let legs: Vec<ShownLeg> = race.legs().collect();
    let status = race.status.map_or_else(|| "–".to_owned(), |status| status.as_u16().to_string());
    let (class, verdict) = match race.end {
        RaceEnd::Won => ("good", race.by().map_or_else(String::new, |by| format!("by {by}"))),
        RaceEnd::Final => ("warn", race.by().map_or_else(String::new, |by| format!("final, by {by}"))),
        RaceEnd::Best => ("warn", race.by().map_or_else(String::new, |by| format!("the best failure, by {by}"))),
        RaceEnd::Lost => ("bad", "every backend failed".to_owned()),
        RaceEnd::Abandoned => ("dim", "the client left".to_owned()),
    };
    html.put(format_args!(
        "<div class=race><p><span class=dim>{}</span> <code>{} {}</code> <b class={class}>{status}</b> {} <span class=dim>{}</span>",
        clock(race.at),
        Escaped(&race.method),
        Escaped(&race.path),
        spoken(race.after),
        Escaped(&verdict)
    ));
    if let Some(gain) = gain_of(race, &legs) {
        html.put(format_args!(" <span class=gain>{}</span>", Escaped(&gain)));
    }
    html.put(format_args!("</p>"));
    put_legs(html, race, &legs, scale);
    html.put(format_args!("</div>"));
}

/// What the race was good for, in a few words.
fn gain_of(race: &RecentRace, legs: &[ShownLeg]) -> Option<String> {
    let verdict = verdict_of(race)?;
    match race.note {
        Some(Note::Rescue) => return Some("rescued: every other backend failed".to_owned()),
        Some(Note::HedgedInVain) => return Some("hedged in vain: the first came just after".to_owned()),
        Some(Note::Slow) => return Some("slower than 99 in 100 of the last minute".to_owned()),
        Some(Note::Lost) | None => {}
    }
    let behind = |leg: &ShownLeg| spoken(leg.ended.saturating_sub(verdict));
    match next_of(race, legs)? {
        leg if leg.is_success => Some(format!("{} sooner than {}", behind(leg), leg.backend)),
        leg => Some(format!("over {} sooner", behind(leg))),
    }
}

/// When an answer was passed on to the client, from the request's arrival: it may have waited for better ones.
fn verdict_of(race: &RecentRace) -> Option<Duration> {
    race.winner.map(|_| race.after)
}

/// The leg that would have won without the winner: the next success. If one was cut before that, it might have been that one. A
/// failure that was passed on has beaten none.
fn next_of<'a>(race: &RecentRace, legs: &'a [ShownLeg<'a>]) -> Option<&'a ShownLeg<'a>> {
    if race.end != RaceEnd::Won {
        return None;
    }
    let others = || legs.iter().enumerate().filter(|(number, _)| Some(*number) != race.winner).map(|(_, leg)| leg);
    others().filter(|leg| leg.is_success || is_cut(leg)).min_by_key(|leg| leg.ended)
}

fn is_cut(leg: &ShownLeg) -> bool {
    leg.end == ShownEnd::Word("cancelled") && leg.started.is_some()
}

/// The time of day in UTC, to the millisecond.
fn clock(at: SystemTime) -> String {
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 86_400_000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Names to the left, what became of each leg to the right, and the picture between them.
fn put_legs(html: &mut Html, race: &RecentRace, legs: &[ShownLeg], scale: TimeScale) {
    let won = verdict_of(race);
    let is_drawn = |number: usize| number < LEGS_MAX || race.winner == Some(number);
    let drawn: Vec<(bool, &ShownLeg)> = (legs.iter().enumerate().filter(|(number, _)| is_drawn(*number)))
        .map(|(number, leg)| (race.winner == Some(number), leg))
        .collect();
    html.put(format_args!("<div class=legs><div>"));
    for (_, leg) in &drawn {
        html.put(format_args!("<span>{}</span>", Escaped(leg.backend)));
    }
    let height = ROW * drawn.len();
    html.put(format_args!("</div><svg height={height} aria-hidden=true>"));
    for tick in scale.ticks() {
        let x = x_of(scale, tick);
        html.put(format_args!("<line class=grid x1={x:.1}% x2={x:.1}% y2={height} />"));
    }
    if let (Some(won), Some(next)) = (won, next_of(race, legs)) {
        let (from, to) = (x_of(scale, won), x_of(scale, next.ended));
        html.put(format_args!("<rect class=shade x={from:.1}% width={:.1}% height={height} />", (to - from).max(0.0)));
    }
    for (row, (has_won, leg)) in drawn.iter().enumerate() {
        put_bar(html, leg, ROW * row, won, *has_won, scale);
    }
    if let Some(won) = won {
        let x = x_of(scale, won);
        html.put(format_args!("<line class=cut x1={x:.1}% x2={x:.1}% y2={height} />"));
    }
    html.put(format_args!("</svg><div>"));
    for (has_won, leg) in &drawn {
        put_end(html, leg, won, *has_won);
    }
    html.put(format_args!("</div></div>"));
    if let more @ 1.. = legs.len() - drawn.len() {
        html.put(format_args!("<p class=dim>and {more} more</p>"));
    }
}

/// A bar from the leg's start to its end: pale before, if it was late, solid until the verdict, hatched after it.
fn put_bar(html: &mut Html, leg: &ShownLeg, top: usize, won: Option<Duration>, has_won: bool, scale: TimeScale) {
    let Some(started) = leg.started else { return };
    let (from, to) = (x_of(scale, started), x_of(scale, leg.ended));
    let verdict = won.map_or(to, |won| x_of(scale, won)).clamp(from, to);
    let (y, class) = (top + (ROW - BAR) / 2, class_of(leg, has_won));
    // Until then it waited for its time, or for others to fail. To start legs takes some microseconds itself.
    if started >= Duration::from_millis(1) {
        html.put(format_args!("<rect class=pale y={y} width={from:.1}% height={BAR} rx=2 />"));
    }
    html.put(format_args!(
        "<rect class={class} x={from:.1}% y={y} width={:.1}% height={BAR} rx=2 />",
        (verdict - from).max(0.3)
    ));
    if to > verdict {
        html.put(format_args!(
            "<rect fill=url(#hatch) x={verdict:.1}% y={y} width={:.1}% height={BAR} rx=2 />",
            to - verdict
        ));
    }
    let mark = match class {
        "win" => "won",
        "fail" => "failed",
        _ => return,
    };
    html.put(format_args!("<use href=#{mark} x={to:.1}% y={top} />"));
}

fn class_of(leg: &ShownLeg, has_won: bool) -> &'static str {
    match leg {
        _ if has_won => "win",
        leg if leg.is_success || is_cut(leg) => "bar",
        _ => "fail",
    }
}

/// What became of the leg.
fn put_end(html: &mut Html, leg: &ShownLeg, won: Option<Duration>, has_won: bool) {
    let word = leg.end.to_string();
    let (class, told) = match won {
        // Its backend is benched or held.
        _ if leg.started.is_none() && word == "skipped" => ("dim", word),
        _ if leg.started.is_none() => ("dim", "not needed".to_owned()),
        _ if has_won && leg.is_success => ("good", format!("▶ {word} {}", spoken(leg.ended))),
        _ if has_won => ("bad", format!("▶ {word} {}, passed on", spoken(leg.ended))),
        Some(won) if leg.is_success => ("dim", format!("{word} {} later", spoken(leg.ended.saturating_sub(won)))),
        _ if is_cut(leg) => ("dim", "hung up on".to_owned()),
        _ => ("bad", format!("✕ {word} {}", spoken(leg.ended))),
    };
    html.put(format_args!("<span class={class}>{}</span>", Escaped(&told)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method, StatusCode};

    use super::*;
    use crate::message::{Outcome, RequestId, Target};
    use crate::metrics::{LegEnd, RecentRaces};

    /// A leg: its outcome, whether that is a success, and when it started and ended, in milliseconds.
    type Leg = (Outcome, bool, Option<u64>, u64);

    fn won(ended: u64) -> Leg {
        (Outcome::Status(StatusCode::OK), true, Some(0), ended)
    }

    fn failed(ended: u64) -> Leg {
        (Outcome::Status(StatusCode::SERVICE_UNAVAILABLE), false, Some(0), ended)
    }

    fn cut(ended: u64) -> Leg {
        (Outcome::Cancelled, false, Some(0), ended)
    }

    const UNSTARTED: Leg = (Outcome::Cancelled, false, None, 0);

    /// The race of b1, b2 …, of which this one has won.
    fn race(legs: &[Leg], winner: Option<usize>, note: Option<Note>) -> Arc<RecentRace> {
        let after = winner.map_or(0, |winner| legs[winner].3);
        race_that_ended(winner.map_or(RaceEnd::Lost, |_| RaceEnd::Won), after, legs, winner, note)
    }

    fn race_that_ended(
        end: RaceEnd,
        after: u64,
        legs: &[Leg],
        winner: Option<usize>,
        note: Option<Note>,
    ) -> Arc<RecentRace> {
        let millis = Duration::from_millis;
        let target = Target::parse(&Method::GET, "/x").expect("a target");
        let mut race = RecentRace::new(RequestId::of(&HeaderMap::new()), UNIX_EPOCH, &Method::GET, &target, end);
        let ends: Vec<LegEnd> = (legs.iter().enumerate())
            .map(|(number, (outcome, is_success, started, ended))| LegEnd {
                outcome,
                has_won: winner == Some(number),
                is_success: *is_success,
                started: millis(started.unwrap_or(0)),
                ended: millis(*ended),
            })
            .collect();
        race.set_legs(legs.iter().map(|(_, _, started, _)| started.map(millis)).zip(&ends));
        (race.winner, race.note, race.after) = (winner, note, millis(after));
        let races = RecentRaces::default();
        races.keep(race, (1..=legs.len()).map(|number| format!("b{number}")).collect());
        races.last(1).remove(0)
    }

    fn drawn(race: &RecentRace) -> String {
        let mut html = Html::default();
        put_race(&mut html, race, TimeScale::until(Duration::from_millis(100)));
        html.into_string()
    }

    #[test]
    fn a_race_says_what_it_was_good_for() {
        let rows: [(&str, &[Leg], Option<usize>, Option<&str>); 8] = [
            ("the next success", &[won(12), won(46), won(50)], Some(0), Some("34 ms sooner than b2")),
            ("a failure is no next one", &[failed(13), won(12), won(50)], Some(1), Some("38 ms sooner than b3")),
            ("one was cut before", &[won(12), cut(20), won(50)], Some(0), Some("over 8.0 ms sooner")),
            ("one was cut after", &[won(12), cut(90), won(50)], Some(0), Some("38 ms sooner than b3")),
            ("all others were cut", &[cut(80), won(12), cut(70)], Some(1), Some("over 58 ms sooner")),
            ("no other was started", &[won(12), UNSTARTED], Some(0), None),
            ("the only one", &[won(12)], Some(0), None),
            ("lost", &[failed(12), failed(13)], None, None),
        ];
        for (label, legs, winner, expected) in rows {
            let race = race(legs, winner, None);
            let legs: Vec<ShownLeg> = race.legs().collect();
            assert_eq!(gain_of(&race, &legs).as_deref(), expected, "{label}");
        }
        let rescue = race(&[failed(5), won(12)], Some(1), Some(Note::Rescue));
        assert!(drawn(&rescue).contains("<span class=gain>rescued: every other backend failed</span>"));
    }

    #[test]
    fn each_leg_is_a_bar_with_its_end_and_the_gap_is_shaded() {
        let picture = drawn(&race(&[won(20), failed(10), won(50), cut(90), UNSTARTED], Some(0), None));
        for part in [
            "<rect class=shade x=20.0% width=30.0% height=100 />",
            "<line class=cut x1=20.0% x2=20.0% y2=100 />",
            "<rect class=win x=0.0% y=5 width=20.0% height=10 rx=2 />",
            "<use href=#won x=20.0% y=0 />",
            "<rect class=fail x=0.0% y=25 width=10.0% height=10 rx=2 />",
            "<use href=#failed x=10.0% y=20 />",
            "<rect fill=url(#hatch) x=20.0% y=45 width=30.0% height=10 rx=2 />",
            "<rect fill=url(#hatch) x=20.0% y=65 width=70.0% height=10 rx=2 />",
            "<span class=good>▶ 200 20 ms</span><span class=bad>✕ 503 10 ms</span><span class=dim>200 30 ms later</span>\
             <span class=dim>hung up on</span><span class=dim>not needed</span>",
        ] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        let lost = drawn(&race(&[failed(10), cut(20)], None, Some(Note::Lost)));
        assert!(
            lost.contains("every backend failed") && !lost.contains("class=shade") && !lost.contains("hatch"),
            "{lost}"
        );
    }

    /// Was seen as: "90 ms sooner than b2" beside a `404` by `--final`, and 700 ms saved by one that had waited for 500 of them.
    #[test]
    fn a_failure_that_is_passed_on_has_saved_nothing() {
        for (end, after) in [(RaceEnd::Final, 10), (RaceEnd::Best, 60)] {
            let picture = drawn(&race_that_ended(end, after, &[failed(10), won(80), cut(90)], Some(0), None));
            let is_drawn = |part: &str| picture.contains(part);
            assert!(!is_drawn("class=gain") && !is_drawn("class=shade"), "{picture}");
            assert!(is_drawn(&format!("<line class=cut x1={after}.0% x2={after}.0% y2=60 />")), "{picture}");
        }
    }

    /// One that asked for an upgrade, whose only success waited for what the other leg would say.
    #[test]
    fn the_verdict_of_a_success_that_waited_is_where_its_client_got_it() {
        let picture = drawn(&race_that_ended(RaceEnd::Won, 70, &[won(10), failed(70), cut(90)], Some(0), None));
        for part in [
            "<span class=gain>over 20 ms sooner</span>",
            "<rect class=shade x=70.0% width=20.0% height=60 />",
            "<line class=cut x1=70.0% x2=70.0% y2=60 />",
            "<rect class=fail x=0.0% y=25 width=70.0% height=10 rx=2 />",
        ] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
    }

    #[test]
    fn of_many_legs_the_first_are_drawn_and_the_winner() {
        let mut legs = vec![failed(10); 64];
        legs[40] = won(20);
        let picture = drawn(&race(&legs, Some(40), Some(Note::Rescue)));
        assert_eq!(picture.matches("<span class=bad>").count(), LEGS_MAX);
        assert!(picture.contains("<span>b41</span>") && picture.contains("<p class=dim>and 51 more</p>"), "{picture}");
    }

    /// Was seen as: three marks of one axis, each "0.1 ms".
    #[test]
    fn no_two_marks_of_a_short_axis_say_the_same() {
        let mut html = Html::default();
        put_axis(&mut html, TimeScale::until(Duration::from_micros(190)));
        let axis = html.into_string();
        let marks: Vec<&str> = axis.split("class=mid>").skip(1).filter_map(|rest| rest.split('<').next()).collect();
        assert_eq!(marks, ["0.05 ms", "0.10 ms", "0.15 ms"]);
    }

    #[test]
    fn a_leg_that_starts_late_has_a_pale_bar_before_it_and_one_that_never_does_none() {
        let late = (Outcome::Status(StatusCode::OK), true, Some(40), 60);
        let skipped = (Outcome::Skipped, false, None, 0);
        let legs = [(Outcome::Timeout, false, Some(0), 90), late, skipped, (Outcome::Unneeded, false, None, 0)];
        let picture = drawn(&race(&legs, Some(1), None));
        let before = "<rect class=pale y=25 width=40.0% height=10 rx=2 />";
        assert!(picture.contains(before) && picture.matches("class=pale").count() == 1, "{picture}");
        assert!(picture.contains("<rect class=win x=40.0% y=25 width=20.0% height=10 rx=2 />"), "{picture}");
        let unstarted = "<span class=dim>skipped</span><span class=dim>not needed</span></div></div></div>";
        assert!(picture.ends_with(unstarted), "{picture}");
    }
}
