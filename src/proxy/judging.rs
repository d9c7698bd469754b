//! Judges answers that would win by more than their heads: rules by which they lose, and the first byte of the body. The leg waits
//! in the poller meanwhile, and what has been looked at is passed on all the same. Knows nothing of the other legs.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::classify::AnswerClass;
use crate::config::LoseIf;
use crate::message::{Outcome, Share, tokens};
use crate::upstream::{Answer, AnswerBody, FileRead, Looked, Upload, Uploaded};

/// The most bytes of a body that are looked at.
const LOOKED_AT_BYTES_MAX: usize = 64 * 1024;
/// The bytes by which a look grows.
const LOOK_BYTES: usize = 4096;
/// The memory of all bodies that are looked at, in bytes: as much as those of requests have. The first look of each takes none of
/// it, in however many pieces its bytes come: so silent and short ones can't keep others out, and cost no more than their connections do.
const ALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most bytes that are searched on a poller's thread: a pattern takes a quarter of a millisecond for them.
const LIGHT_BYTES_MAX: usize = 4096;
/// The time after which a leg that finds no room in it looks for some again.
const RETRY: Duration = Duration::from_millis(10);

/// The rule by which a stream of events loses that has none: its reader waits for one in vain.
const WITHOUT_EVENT: &str = "--win-on byte: its stream ended without an event";

/// An answer that is being judged.
pub(super) struct Judging {
    pub(super) answer: Box<Answer>,
    pub(super) class: AnswerClass,
    waits_for: WaitsFor,
    is_event_stream: bool,
    /// That of its backend.
    timeout: Duration,
    /// By when a byte must have come, if one is waited for and the request is out.
    byte_by: Instant,
    /// When it is over: then what no rule has matched wins.
    until: Instant,
    /// The count of bytes in which rules have been looked for, if they have been.
    scanned: Option<usize>,
    room: Share,
    /// More of the request can be sent, once it has been read.
    awaits_file: bool,
}

/// What of its body decides on an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitsFor {
    /// The rules that look at it.
    pub(super) rules: bool,
    /// Its first byte.
    pub(super) byte: bool,
}

/// What is known of an answer.
pub(super) enum Judgement {
    /// It wins, if it is the first.
    Fit,
    /// A rule matches.
    Unfit(String),
    /// It breaks off, or nothing comes.
    Failed(Outcome),
    /// To know it takes long: a thread is needed that may take its time.
    IsLong,
    /// More must be received, or it is looked at again at this time.
    Waits(Instant),
}

impl Judging {
    /// Begins with an answer whose body decides. `timeout` is that of its backend.
    pub(super) fn new(
        answer: Box<Answer>,
        class: AnswerClass,
        waits_for: WaitsFor,
        used: &Arc<AtomicUsize>,
        now: Instant,
        timeout: Duration,
    ) -> Judging {
        let until = now + timeout;
        let is_event_stream = is_event_stream(&answer.headers);
        let room = Share::new(used.clone(), ALL_BYTES_MAX);
        let (byte_by, scanned, awaits_file) = (answer.head_by, None, false);
        Judging { answer, class, waits_for, is_event_stream, timeout, byte_by, until, scanned, room, awaits_file }
    }

    /// What has to be read of the request's file before more of it is sent, if the leg waits until then at most.
    pub(super) fn file_read(&mut self, until: Instant) -> Option<FileRead> {
        let upload = self.answer.upload.as_mut().filter(|_| self.awaits_file)?;
        upload.file_read(Some(until)).map(|(read, _)| read)
    }

    /// Looks at what has been received; of one that `has_lost` at the first bytes alone, for which it needs no room: others may still
    /// win. Doesn't block, nor take long, but where it may.
    pub(super) fn step(&mut self, rules: &LoseIf, has_lost: bool, may_take_long: bool) -> Judgement {
        let mut wake = self.send_more();
        let bytes_max = if has_lost { LOOK_BYTES } else { LOOKED_AT_BYTES_MAX };
        if has_lost {
            self.room.shrink(0);
        }
        loop {
            let length = self.answer.body.begin().len();
            let wanted = ((length / LOOK_BYTES + 1) * LOOK_BYTES).min(bytes_max.max(length));
            let is_streamed = matches!(self.answer.body, AnswerBody::Streamed(_));
            if is_streamed && wanted > LOOK_BYTES && !has_lost && !self.try_take_room() {
                wake = wake.min(Instant::now() + RETRY);
                break;
            }
            match self.answer.body.look(wanted) {
                Looked::Broken(outcome) => return Judgement::Failed(outcome),
                Looked::Enough if self.has_counted() => return Judgement::Fit,
                Looked::Enough if wanted < bytes_max => {}
                Looked::Whole if self.waits_for.byte && self.is_event_stream && !self.has_byte() => {
                    return Judgement::Unfit(WITHOUT_EVENT.to_owned());
                }
                looked @ (Looked::Whole | Looked::Enough) => {
                    let length = self.answer.body.begin().len();
                    self.room.shrink(length);
                    let is_all = !has_lost || (looked == Looked::Whole && length <= bytes_max);
                    return self.judge_by_rules(rules, bytes_max, is_all, may_take_long);
                }
                Looked::More => break,
            }
        }
        if self.has_counted() {
            return Judgement::Fit;
        }
        let (is_silent, now) = (self.is_silent(), Instant::now());
        let is_request_out = self.answer.upload.is_none();
        if is_silent && is_request_out && now >= self.byte_by {
            return Judgement::Failed(Outcome::Timeout);
        }
        let until = match is_silent {
            true if is_request_out => self.byte_by,
            true => wake,
            false => self.until,
        };
        let has_doubled = self.answer.body.begin().len() >= 2 * self.scanned.unwrap_or(0).max(1);
        if has_doubled || now >= until {
            match self.judge_by_rules(rules, bytes_max, false, may_take_long) {
                // Silence is no victory, however late it is.
                Judgement::Fit if is_silent || now < until => {}
                judged => return judged,
            }
        }
        Judgement::Waits(wake.min(until))
    }

    /// Has its parked leg take the next look at once, if it has room for which others may wait.
    pub(super) fn look_soon(&self, now: Instant) {
        if !self.room.is_empty() {
            let _ = self.answer.body.readiness(now);
        }
    }

    /// Takes room for all that is looked at, if there is some. It is taken at once, before much has been received: who has it comes
    /// to an end without more, and so those that wait for it get some.
    fn try_take_room(&mut self) -> bool {
        let length = self.answer.length.and_then(|length| usize::try_from(length).ok());
        self.room.try_grow(length.unwrap_or(usize::MAX).min(LOOKED_AT_BYTES_MAX))
    }

    /// Sends more of the request, if that isn't out, and gives by when it wants to send the rest.
    fn send_more(&mut self) -> Instant {
        self.awaits_file = false;
        match self.answer.upload.take().map(Upload::send_more) {
            Some(Uploaded::Yield(upload)) => {
                (self.answer.upload, self.awaits_file) = (Some(upload), true);
                Instant::now() + self.timeout
            }
            Some(Uploaded::Blocked(upload, until)) => {
                self.answer.upload = Some(upload);
                until
            }
            Some(Uploaded::Done) => {
                self.byte_by = Instant::now() + self.timeout;
                self.until = self.until.max(self.byte_by);
                self.until
            }
            None => self.until.max(self.byte_by),
        }
    }

    /// Whether a byte has come by which it wins.
    fn has_counted(&self) -> bool {
        !self.waits_for.rules && self.has_byte()
    }

    /// Whether a byte is waited for.
    fn is_silent(&self) -> bool {
        self.waits_for.byte && !self.has_byte()
    }

    /// Whether a byte has come that counts as one.
    fn has_byte(&self) -> bool {
        let begin = self.answer.body.begin();
        if self.is_event_stream { has_event(begin) } else { !begin.is_empty() }
    }

    /// Looks for rules in the first bytes of what has come, which are `all` that will be looked at, or not. While more comes that is done
    /// each time that it has doubled: a backend that sends byte by byte mustn't have all of it looked at for each.
    fn judge_by_rules(&mut self, rules: &LoseIf, bytes_max: usize, all: bool, may_take_long: bool) -> Judgement {
        let begin = self.answer.body.begin();
        let begin = &begin[..begin.len().min(bytes_max)];
        let is_scanned = self.scanned == Some(begin.len()) && !(all && rules.depends_on_end());
        if !self.waits_for.rules || is_scanned {
            return Judgement::Fit;
        }
        if begin.len() > LIGHT_BYTES_MAX && !may_take_long {
            return Judgement::IsLong;
        }
        // The rest of the last character may be still to come.
        let partial = if all { 0 } else { begin.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len()) };
        let begin = &begin[..begin.len() - partial];
        self.scanned = Some(begin.len());
        rules.match_in_body(begin, all).map_or(Judgement::Fit, Judgement::Unfit)
    }
}

/// Whether a body is hidden in an encoding.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    // Empty places in the list count for nothing (RFC 9110 §5.6.1.2).
    tokens(headers, &CONTENT_ENCODING).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().trim_ascii_start()).unwrap_or_default();
    media_type.get(..TYPE.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(TYPE)) && !is_encoded(headers)
}

/// Whether a stream of events has more than comments and blank lines.
fn has_event(bytes: &[u8]) -> bool {
    const MARK: &[u8] = &[0xef, 0xbb, 0xbf];
    // A mark of the order of bytes may stand before all (the format's own rule), and may have come in part.
    if MARK.starts_with(bytes) {
        return false;
    }
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let mut lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.any(|line| line.first().is_some_and(|first| *first != b':'))
}
