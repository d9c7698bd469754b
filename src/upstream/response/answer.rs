//! A backend's answer: a complete head, and a body that has been received or is still coming.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode, Version};

use crate::message::Outcome;
use crate::runtime::cancel::CancelToken;
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::body::{AnswerBody, StreamedBody};
use crate::upstream::response::head::{BodyFraming, ResponseHead};
use crate::upstream::response::received::CompleteAnswer;
use crate::upstream::response::upgraded::Upgraded;
use crate::upstream::upload::Upload;

/// A backend's answer.
pub struct Answer {
    /// The final status; 1xx have been swallowed.
    pub status: StatusCode,
    /// The backend's version of HTTP.
    pub version: Version,
    /// All fields; of an answer that lost they may be missing.
    pub headers: HeaderMap,
    /// The body's length in bytes if it is known, or the one that it would have (HEAD, 304).
    pub length: Option<u64>,
    /// The body.
    pub body: AnswerBody,
    /// The connection, if the status is 101: it speaks another protocol now.
    pub upgraded: Option<Upgraded>,
    /// The rest of the request, if the answer was received before that was out.
    pub upload: Option<Upload>,
}

impl ResponseHead {
    /// Whether the backend says that no request arrived in time, and closes the connection.
    pub(crate) fn is_request_timeout_at_close(&self) -> bool {
        self.status == StatusCode::REQUEST_TIMEOUT && !self.is_persistent
    }
}

impl Answer {
    /// Makes the answer with this head, which is the next on the connection. An answer that has been received whole is taken as
    /// it is, and its connection put back; any other is read by ureq.
    pub(crate) fn of(
        mut pooled: PooledConnection,
        pool: &Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
        head: &ResponseHead,
        complete: Option<CompleteAnswer>,
    ) -> Result<Answer, Outcome> {
        pooled.apply_head(head);
        let is_out = pooled.connection().is_request_out();
        match complete {
            Some(complete) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                pooled.connection().consume(head.bytes);
                let upgraded = Upgraded::new(pooled, token.clone());
                Ok(Answer { upgraded: Some(upgraded), ..Answer::complete(head, complete) })
            }
            Some(complete) if is_out => {
                pooled.connection().consume(complete.bytes);
                token.disarm().map_err(|_| Outcome::Cancelled)?;
                pool.put(pooled.with_end(head.is_persistent), Instant::now());
                Ok(Answer::complete(head, complete))
            }
            _ => Answer::streamed(pooled, pool, request, token, head),
        }
    }

    fn complete(head: &ResponseHead, complete: CompleteAnswer) -> Answer {
        let length =
            if head.framing == BodyFraming::None { head.declared_length } else { Some(complete.body.len() as u64) };
        Answer {
            status: head.status,
            version: head.version,
            headers: complete.headers,
            length,
            body: AnswerBody::Whole(complete.body),
            upgraded: None,
            upload: None,
        }
    }

    fn streamed(
        pooled: PooledConnection,
        pool: &Arc<Pool>,
        request: &UpstreamRequest,
        token: &CancelToken,
        head: &ResponseHead,
    ) -> Result<Answer, Outcome> {
        let called = pool.caller().call(request.method(), pooled.connection(), head);
        let (headers, reader) = called.map_err(|outcome| token.disarm().map_or(Outcome::Cancelled, |()| outcome))?;
        let is_upload_wanted = head.status.is_success() && !pooled.connection().is_request_out();
        let upload = is_upload_wanted.then(|| Upload::new(&pooled, pool, request.holds_file()));
        let left = match head.framing {
            BodyFraming::None => Some(0),
            BodyFraming::Sized(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        };
        let body = StreamedBody {
            reader: Some(reader),
            pooled: Some(pooled),
            pool: pool.clone(),
            token: token.clone(),
            left,
            has_ended: false,
            is_persistent: head.is_persistent,
            shared: upload.as_ref().map(Upload::pooled),
        };
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers,
            length: head.declared_length,
            body: AnswerBody::Streamed(Box::new(body)),
            upgraded: None,
            upload,
        })
    }
}
