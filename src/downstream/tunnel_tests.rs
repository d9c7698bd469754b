//! Tunnels: what moves between a client and a backend, and how the two end.

use crate::downstream::connection_table::Evictable;
use crate::downstream::scenario::{Backend, Ending, GET, OnWrite, SOON, Scenario, delivery, switching};
use crate::message::Delivery;

#[test]
fn a_tunnel_moves_bytes_both_ways() {
    let (mut scene, mut backend, deliveries) = Scenario::new().silent_tunnel();
    scene.send("up");
    scene.ready();
    assert_eq!(backend.read(2), "up");
    backend.send("down");
    assert_eq!(scene.read(4), b"down");
    assert!(deliveries.is_empty());
}

#[test]
fn what_a_client_sent_with_its_request_is_the_first_in_its_tunnel() {
    let mut scene = Scenario::new().connected();
    scene.send([GET, "early"].concat());
    scene.ready();
    let ((mut backend, peer), (ended, _deliveries)) = (Backend::new(), delivery());
    scene.request().join(switching(), peer, ended);
    scene.send("late");
    scene.ready();
    assert_eq!(backend.read(9), "earlylate");
}

/// Was seen as: an upgrade behind a reply that its client hadn't read yet ended both with a reset.
#[test]
fn a_101_that_finds_no_room_waits_for_the_client() {
    let (mut scene, unread) = Scenario::new().with_unread_reply(GET);
    scene.expire();
    let ((mut backend, peer), (ended, deliveries)) = (Backend::new(), delivery());
    scene.request().join(switching(), peer, ended);
    backend.send("down");
    assert!(deliveries.is_empty());
    scene.run_event_loop();
    scene.read(unread);
    assert!(scene.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(scene.read(4), b"down");
}

#[test]
fn each_side_of_a_tunnel_may_end_first_and_still_hears_the_other() {
    let (mut scene, mut backend, deliveries) = Scenario::new().silent_tunnel();
    scene.half_close();
    assert!(backend.has_received_end() && deliveries.is_empty());
    backend.send("down");
    backend.half_close();
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::Whole)));
    assert_eq!(scene.read_to_end(), ("down".to_owned(), Ending::InOrder));

    let (mut scene, mut backend, deliveries) = Scenario::new().silent_tunnel();
    backend.half_close();
    assert!(deliveries.is_empty());
    scene.send("up");
    scene.half_close();
    assert_eq!(backend.read(2), "up");
    assert!(backend.has_received_end());
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::Whole)));
}

#[test]
fn a_silent_tunnel_that_has_had_its_time_tells_both_sides_the_end() {
    let (mut scene, mut backend, deliveries) = Scenario::new().without_time_for_replies().silent_tunnel();
    assert_eq!(scene.read_to_end(), (String::new(), Ending::InOrder));
    assert!(backend.has_received_end());
    assert!(deliveries.is_empty(), "what they still send must not make a reset of it");
    scene.send("late");
    scene.half_close();
    backend.half_close();
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::Whole)));
    assert_eq!(scene.frontend.connections(), 0);
}

/// It isn't read any more, so reading doesn't tell of it.
#[test]
fn a_client_that_dies_after_its_end_ends_its_tunnel() {
    let (mut scene, backend, deliveries) = Scenario::new().silent_tunnel();
    scene.half_close();
    scene.leave();
    assert!(deliveries.is_empty(), "the backend is told, and may say its last");
    backend.half_close();
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::ClientGone(_))));
    assert_eq!(scene.frontend.connections(), 0);
}

/// Was seen as: a backend that said why it closed, and was written to at the same moment, wasn't heard.
#[test]
fn the_last_words_of_a_side_that_takes_nothing_any_more_are_heard() {
    let (mut scene, mut backend, deliveries) = Scenario::new().silent_tunnel();
    backend.on_write(OnWrite::Fails);
    scene.send("x");
    let words = "w".repeat(30_000);
    backend.send(&words);
    backend.half_close();
    let (heard, ending) = scene.read_to_end();
    assert_eq!(ending, Ending::InOrder, "a reset might overtake them");
    assert!(heard == words, "{} bytes", heard.len());
    scene.half_close();
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::BodyBroke(_))));
}

/// Was seen as: a silent tunnel whose thread panicked wasn't logged and kept its client's socket for ever.
#[test]
fn a_panic_ends_the_tunnel_with_a_reset() {
    let (mut scene, backend, deliveries) = Scenario::new().silent_tunnel();
    backend.on_write(OnWrite::Panics);
    scene.send("x");
    scene.run_event_loop();
    let delivery = deliveries.recv_timeout(SOON);
    assert!(matches!(delivery, Ok(Delivery::Panicked)), "{delivery:?}");
    assert_eq!(scene.read_to_end().1, Ending::Reset);
    assert!(backend.is_aborted(), "the backend must not take it for whole either");
}

#[test]
fn a_drain_leaves_a_tunnel_alone_and_a_cut_ends_it_in_order() {
    let (mut scene, mut backend, deliveries) = Scenario::new().silent_tunnel();
    scene.drain();
    assert!(deliveries.is_empty());
    scene.send("last");
    scene.cut();
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::Stopped)));
    assert_eq!(backend.read(4), "last", "what can be moved at once is");
    assert!(backend.has_received_end());
    assert_eq!(scene.read_to_end(), (String::new(), Ending::InOrder));
}

#[test]
fn a_cut_that_came_before_the_tunnel_ends_it() {
    let (scene, reply_to) = Scenario::new().being_served();
    scene.client().state.lock().is_cut = true;
    let ((mut backend, peer), (ended, deliveries)) = (Backend::new(), delivery());
    reply_to.join(switching(), peer, ended);
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::Stopped)));
    assert!(backend.has_received_end());
}

#[test]
fn an_evicted_tunnel_ends_in_order() {
    let (mut scene, mut backend, deliveries) = Scenario::new().silent_tunnel();
    assert!(!scene.client().try_evict(&|_| false) && deliveries.is_empty(), "it is asked whether it may be");
    assert!(scene.client().try_evict(&|_| true));
    assert!(matches!(deliveries.try_recv(), Ok(Delivery::Evicted)));
    assert_eq!(scene.read_to_end(), (String::new(), Ending::InOrder));
    assert!(backend.has_received_end());
}
