//! An instant as the log writes it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// Shows an instant by RFC 3339, in UTC, to the millisecond: `2026-11-24T03:14:07.120Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = date(since.as_secs() / SECONDS_A_DAY);
        let second = since.as_secs() % SECONDS_A_DAY;
        let (hour, minute, second, millis) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The date of a day since 1970. Years begin with March here, so that the day of a leap year is the last one, and repeat every
/// 400 years, which have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    // From the first of March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months since March: five of them have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_instant_is_told_by_date_and_time() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_001, "2000-03-01T00:00:00.001Z"),
            (1_795_490_047_120, "2026-11-24T03:14:07.120Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
        ];
        for (millis, text) in rows {
            assert_eq!(Timestamp(UNIX_EPOCH + Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_that_of_another_implementation() {
        for day in 0..146_097 {
            let at = UNIX_EPOCH + Duration::from_secs(day * SECONDS_A_DAY);
            let (year, month, day) = date(day);
            let name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
                [usize::try_from(month - 1).expect("a month")];
            let expected = format!(", {day:02} {name} {year:04} 00:00:00 GMT");
            assert!(httpdate::fmt_http_date(at).ends_with(&expected), "{expected}");
        }
    }
}
