//! Tests of a connection: its events, its bytes and its end. They don't stand in `conn`, which the models bring along without the
//! scenarios.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use crate::message::OnReady;
use crate::runtime::cancel::HangUp;
use crate::runtime::poller::{Event, EventHandler};
use crate::upstream::conn::connection::OwnedConnection;
use crate::upstream::conn::parking::{Count, Readiness, Waiter};
use crate::upstream::scenario::{Backend, LONG, Scenario, get};

/// A new connection whose events the test gives, and the backend's end.
fn still() -> (Scenario, OwnedConnection, Backend) {
    let scenario = Scenario::still();
    let (established, backend) = scenario.connection();
    (scenario, established.connection, backend)
}

#[test]
fn an_event_of_the_socket_or_the_deadline_wakes_the_leg_and_a_shutdown_only_one_that_is_hung_up_on() {
    let ready = Event::Ready { read_closed: false, dead: false };
    let rows = [
        (ready, false, 1),
        (Event::Expired, false, 1),
        (Event::Drain, false, 0),
        (Event::Cut, false, 0),
        (Event::Drain, true, 0),
        (Event::Cut, true, 1),
    ];
    for (event, is_hung_up, expected) in rows {
        let (_scenario, connection, _backend) = still();
        let woken = Arc::new(Count::default());
        assert!(connection.get().park(woken.clone(), 0));
        if is_hung_up {
            connection.get().hang_up();
        }
        connection.get().clone().on_event(event);
        assert_eq!(woken.get(), expected, "{event:?}, hung up on: {is_hung_up}");
    }
}

#[test]
fn a_withdrawn_leg_is_woken_by_no_event() {
    let (_scenario, connection, _backend) = still();
    let woken = Arc::new(Count::default());
    assert!(connection.get().park(woken.clone(), 0));
    connection.get().withdraw();
    connection.get().clone().on_event(Event::Expired);
    assert_eq!(woken.get(), 0);
}

#[test]
fn the_first_leg_on_a_new_connection_looks_before_it_parks() {
    let (_scenario, connection, _backend) = still();
    connection.get().note_established();
    let woken = Arc::new(Count::default());
    assert!(!connection.get().park(woken.clone(), 0), "bytes may have come with the handshake");
    assert!(connection.get().park(woken, 0), "it has looked");
}

#[test]
fn an_idle_connection_has_received_neither_bytes_nor_an_end() {
    let (_scenario, connection, mut backend) = still();
    assert!(connection.get().probe_idle());
    backend.sends("x");
    assert!(!connection.get().probe_idle());
    let (_scenario, connection, backend) = still();
    backend.ends();
    assert!(!connection.get().probe_idle());
}

/// Else the first leg on it would look in vain, or park on an event of the last one's.
#[test]
fn a_probe_forgets_the_events_before_it() {
    let (_scenario, connection, _backend) = still();
    connection.get().clone().on_event(Event::Expired);
    assert!(connection.get().probe_idle());
    assert!(connection.get().park(Arc::new(Count::default()), 0));
}

#[test]
fn a_hang_up_ends_both_directions() {
    let (_scenario, connection, mut backend) = still();
    backend.sends("x");
    connection.get().hang_up();
    assert_eq!(backend.receives_to_end(), b"");
    assert!(connection.get().stream().send(&[IoSlice::new(b"x")]).is_err(), "no request follows");
}

#[test]
fn unread_bytes_are_those_that_are_buffered_and_in_the_socket() {
    let (_scenario, connection, mut backend) = still();
    let stream = connection.get().stream();
    backend.sends("abc");
    assert_eq!(stream.unread_bytes(), Some(3));
    assert!(stream.peek(|peeked| peeked.bytes.len()) == 3 && stream.unread_bytes() == Some(3));
    stream.consume(1);
    backend.sends("de");
    assert_eq!(stream.unread_bytes(), Some(4));
}

#[test]
fn what_is_put_back_is_read_first_and_before_what_is_buffered() {
    let (_scenario, connection, mut backend) = still();
    let (stream, mut buffer) = (connection.get().stream(), [0; 8]);
    backend.sends("cd");
    assert!(stream.peek(|peeked| peeked.bytes == b"cd"));
    stream.unread(b"ab".to_vec());
    assert_eq!(stream.read(&mut buffer).ok(), Some(4));
    assert_eq!(&buffer[..4], b"abcd");
    assert_eq!(stream.read(&mut buffer).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
}

#[test]
fn an_end_is_seen_behind_bytes_that_are_unread() {
    let (_scenario, connection, mut backend) = still();
    backend.sends("x");
    assert!(!connection.get().has_ended());
    backend.ends();
    assert!(connection.get().has_ended());
    assert!(connection.get().stream().read(&mut [0]).is_ok_and(|count| count == 1));
    assert!(connection.get().stream().read(&mut [0]).is_ok_and(|count| count == 0));
}

#[test]
fn the_reader_is_told_of_every_event_until_it_is_taken_away() {
    let (_scenario, connection, _backend) = still();
    let told = Arc::new(Count::default());
    let reader: OnReady = {
        let told = told.clone();
        Arc::new(move || told.clone().wake(0))
    };
    connection.get().set_reader(Some(reader));
    for _ in 0..2 {
        connection.get().clone().on_event(Event::Expired);
    }
    connection.get().set_reader(None);
    connection.get().clone().on_event(Event::Expired);
    assert_eq!(told.get(), 2);
}

#[test]
fn a_request_counts_as_out_from_its_last_byte_until_it_is_dropped() {
    let (scenario, connection, mut backend) = still();
    let connection = connection.get();
    assert!(!connection.is_request_out() && connection.is_request_untouched());
    connection.begin_request(scenario.pool.bytes_of(&get()));
    assert!(connection.is_request_out() && !connection.is_request_untouched());
    assert!(backend.receives_head().starts_with("GET / HTTP/1.1\r\n"));
    connection.drop_request();
    assert!(!connection.is_request_out() && connection.is_request_untouched());
}

#[test]
fn a_dropped_connection_leaves_the_poller() {
    let (_scenario, connection, mut backend) = still();
    connection.get().set_deadline(Instant::now() + LONG);
    drop(connection);
    assert_eq!(backend.receives_to_end(), b"", "the poller would keep the socket open");
}
