//! Durations as flags and lists write them, and back. An error quotes the bad text and says what would be right. Knows nothing of
//! what a duration is for.

use std::time::Duration;

use super::bad;

/// The longest time that a flag or an option takes. No request is worth a day's waiting, and instants stay far from overflowing.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A duration such as `500ms`, `1.5s` or `1m30s`: numbers with units, the units falling; at most a day, to the millisecond.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const RIGHT: &str = "write 500ms, 1.5s, 5s, 1m30s or 1h";
    let (mut rest, mut total_ms, mut larger_ms) = (text, 0_u64, u64::MAX);
    loop {
        let (number, behind) =
            number_and_rest(rest).ok_or_else(|| bad(text, format_args!("not a duration; {RIGHT}")))?;
        let unit = &behind[..behind.bytes().take_while(u8::is_ascii_alphabetic).count()];
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "" if behind.is_empty() => return Err(bad(text, format_args!("no unit; {RIGHT}"))),
            _ => return Err(bad(text, format_args!("not a duration; {RIGHT}"))),
        };
        if unit_ms >= larger_ms {
            return Err(bad(text, "its units must fall, each given once; write 1h2m3s500ms, say"));
        }
        total_ms = scaled(number, unit_ms)
            .map_err(|bad_number| match bad_number {
                BadNumber::Fraction => bad(text, "finer than a millisecond; write whole ones"),
                BadNumber::TooLarge => longer_than_a_day(text),
            })?
            .checked_add(total_ms)
            .ok_or_else(|| longer_than_a_day(text))?;
        (rest, larger_ms) = (&behind[unit.len()..], unit_ms);
        if rest.is_empty() {
            break;
        }
    }
    Some(Duration::from_millis(total_ms))
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| longer_than_a_day(text))
}

fn longer_than_a_day(text: &str) -> String {
    bad(text, "longer than a day; write at most 24h")
}

/// Writes a duration as the flags take it.
pub fn show_duration(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// Splits off the number that a text begins with, with a decimal fraction or without. Signs belong to no number.
pub(crate) fn number_and_rest(text: &str) -> Option<(&str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let length = match text[whole..].strip_prefix('.') {
        Some(fraction) => whole + 1 + Some(digits(fraction)).filter(|count| *count > 0)?,
        None => whole,
    };
    (whole > 0).then(|| text.split_at(length))
}

/// Reason why a number of units is none of the smallest.
pub(crate) enum BadNumber {
    /// A fraction that the smallest unit can't tell.
    Fraction,
    TooLarge,
}

/// Scales a number, with a decimal fraction or without, to the smallest unit, of which its own has `unit`; exact.
pub(crate) fn scaled(number: &str, unit: u64) -> Result<u64, BadNumber> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit)).ok_or(BadNumber::TooLarge)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Ok(whole);
    }
    // 18 digits are less than 64 bits hold; no time needs more than 7.
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 18).ok_or(BadNumber::Fraction)?;
    let parts = fraction.parse::<u128>().map_err(|_| BadNumber::Fraction)? * u128::from(unit);
    let one = 10_u128.pow(digits);
    if !parts.is_multiple_of(one) {
        return Err(BadNumber::Fraction);
    }
    let parts = u64::try_from(parts / one).expect("less than one unit");
    whole.checked_add(parts).ok_or(BadNumber::TooLarge)
}
