//! A backend's answer: a complete head, and a body that has come or is still coming.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode, Version};

use super::body::{AnswerBody, StreamedBody};
use super::line::Line;
use super::reading::Whole;
use super::response::{BodyEnd, ResponseHead};
use super::{Lines, Outgoing, Switched, Upload};
use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;

/// A backend's answer.
pub struct Answer {
    /// The final status; 1xx have been swallowed.
    pub status: StatusCode,
    /// The backend's version of HTTP.
    pub version: Version,
    /// All fields; of one that lost they may be missing.
    pub headers: HeaderMap,
    /// The body's length in bytes if it is known, or the one that it would have (HEAD, 304).
    pub length: Option<u64>,
    /// The body.
    pub body: AnswerBody,
    /// The line, if the status is 101: it speaks another protocol now.
    pub switched: Option<Switched>,
    /// The rest of the request, if the answer came before that was out.
    pub upload: Option<Upload>,
}

impl ResponseHead {
    /// Whether the backend says that no request came in time, and closes the connection.
    pub(super) fn is_request_timeout_at_close(&self) -> bool {
        self.status == StatusCode::REQUEST_TIMEOUT && !self.is_persistent
    }
}

impl Answer {
    /// The answer with this head, which is the next on the line. One that has come whole is taken as it is, and frees the line; any
    /// other is read by ureq.
    pub(super) fn of(
        mut line: Line,
        lines: &Arc<Lines>,
        request: &Outgoing,
        token: &CancelToken,
        head: &ResponseHead,
        whole: Option<Whole>,
    ) -> Result<Answer, Outcome> {
        line.heed(head);
        let is_out = line.wire().is_request_out();
        match whole {
            Some(whole) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                line.wire().consume(head.bytes);
                let switched = Switched::new(line, token.clone());
                Ok(Answer { switched: Some(switched), ..Answer::whole(head, whole) })
            }
            Some(whole) if is_out => {
                line.wire().consume(whole.bytes);
                token.disarm().map_err(|_| Outcome::Cancelled)?;
                lines.keep(line.freed(head.is_persistent), Instant::now());
                Ok(Answer::whole(head, whole))
            }
            _ => Answer::streamed(line, lines, request, token, head),
        }
    }

    fn whole(head: &ResponseHead, whole: Whole) -> Answer {
        let length = if head.body == BodyEnd::Bare { head.told } else { Some(whole.body.len() as u64) };
        Answer {
            status: head.status,
            version: head.version,
            headers: whole.headers,
            length,
            body: AnswerBody::Whole(whole.body),
            switched: None,
            upload: None,
        }
    }

    fn streamed(
        line: Line,
        lines: &Arc<Lines>,
        request: &Outgoing,
        token: &CancelToken,
        head: &ResponseHead,
    ) -> Result<Answer, Outcome> {
        let called = lines.caller().call(request.method(), line.wire(), head);
        let (headers, reader) = called.map_err(|outcome| token.disarm().map_or(Outcome::Cancelled, |()| outcome))?;
        let goes_on = head.status.is_success() && !line.wire().is_request_out();
        let upload = goes_on.then(|| Upload::new(&line, lines, request.holds_file()));
        let left = match head.body {
            BodyEnd::Bare => Some(0),
            BodyEnd::After(length) => Some(length),
            BodyEnd::Chunked | BodyEnd::UntilClose => None,
        };
        let body = StreamedBody {
            reader: Some(reader),
            line: Some(line),
            lines: lines.clone(),
            token: token.clone(),
            left,
            has_ended: false,
            is_persistent: head.is_persistent,
            shared: upload.as_ref().map(Upload::line),
        };
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers,
            length: head.told,
            body: AnswerBody::Streamed(Box::new(body)),
            switched: None,
            upload,
        })
    }
}
