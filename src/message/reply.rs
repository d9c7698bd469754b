//! A reply to a client, and its fate on the way.

use std::io;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::source::BodySource;

/// The first line of the reply to an update that was taken.
pub const UPDATED: &str = "Backends updated successfully";

/// What the reply to a change of the list begins with: the head of its table.
pub const TABLE_BEGIN: &str = "name ";

/// A reply to a client: a winner's answer, or a refusal.
pub struct Reply {
    /// The final status: 101 or 200 and above.
    pub status: StatusCode,
    /// The end-to-end fields. Framing (Content-Length, Transfer-Encoding, Connection) is added downstream.
    pub headers: HeaderMap,
    /// The body.
    pub body: ReplyBody,
}

/// The body of a [`Reply`].
pub enum ReplyBody {
    /// All of it, received already or made here.
    Whole(Vec<u8>),
    /// A body that comes as a backend sends it.
    Stream {
        /// Its length in bytes, if the backend told it.
        length: Option<u64>,
        /// The reader of it.
        source: Box<dyn BodySource>,
    },
    /// None, but the head tells the length that it would have (HEAD and 304, RFC 9110 §8.6).
    Withheld {
        /// The length in bytes, if it is known.
        length: Option<u64>,
    },
}

impl Reply {
    /// A short text of the proxy's own. No cache may keep it: the next request may have another reply.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Reply {
        Reply::typed(status, "text/plain; charset=utf-8", text)
    }

    /// A text of this type, else like [`Reply::text`].
    pub fn typed(status: StatusCode, media_type: &'static str, text: impl Into<String>) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
        headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        let mut text = text.into();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Reply { status, headers, body: ReplyBody::Whole(text.into_bytes()) }
    }
}

/// The fate of a reply on its way to the client.
#[derive(Debug)]
pub enum Delivery {
    /// The client's socket took every byte.
    Whole,
    /// The backend's body broke off; the client's connection was cut, so that the client can't take the body for
    /// complete.
    BodyBroke(io::Error),
    /// The client went away or stopped reading.
    ClientGone(io::Error),
    /// The client went away when nothing more of the backend's body had come for this long.
    GaveUp(Duration),
    /// The proxy was stopped before the reply was through.
    Stopped,
    /// The client was evicted, since little moved and others wanted its place: its tunnel was closed, or its connection
    /// cut.
    Evicted,
    /// A bug in the proxy; the log has the details.
    Panicked,
}
