//! The same tables with clients that come by HTTPS: nothing of HTTP is another thing under TLS.

use crate::harness::over_tls;

/// A test of each of these, under TLS.
macro_rules! under_tls {
    ($($module:ident: $($test:ident),* $(,)?;)*) => {
        $(mod $module {
            $(#[test]
            fn $test() {
                super::over_tls(super::super::$module::$test);
            })*
        })*
    };
}

under_tls! {
    refusals:
        request_lines_that_are_none_are_refused,
        targets_that_are_none_are_refused,
        other_versions_and_protocols_are_refused,
        a_client_of_http_2_is_answered_in_frames,
        fields_that_are_none_are_refused,
        lines_that_do_not_end_with_cr_lf_are_refused,
        a_host_that_is_none_or_two_is_refused,
        lengths_that_are_none_or_two_are_refused,
        codings_that_are_not_exactly_one_chunked_are_refused,
        chunks_that_are_none_are_refused,
        what_is_too_long_is_refused,
        a_refused_request_hides_nothing_behind_the_ones_before_it;
    requests:
        odd_request_lines_pass,
        the_authority_of_an_absolute_target_replaces_host,
        odd_fields_pass,
        a_head_of_the_longest_reaches_every_backend_whole,
        every_valid_host_passes,
        fields_that_a_backend_could_take_for_the_proxys_own_are_dropped,
        a_long_trace_is_reflected_without_what_is_long,
        the_proxies_that_trace_and_options_may_pass_are_counted,
        bodies_of_known_length_pass,
        chunks_pass_and_their_framing_stays_here,
        a_request_within_a_body_stays_a_body,
        what_is_about_the_clients_own_connection_stays_here,
        a_request_that_never_becomes_whole_reaches_no_backend,
        a_client_that_leaves_in_the_middle_of_a_long_body_leaves_nothing_behind;
    responses:
        lines_of_a_head_that_others_read_differently_lose,
        status_lines_that_are_none_lose,
        lengths_and_codings_that_others_read_differently_lose,
        heads_that_are_too_large_lose,
        answers_that_break_off_in_their_head_lose,
        a_switch_of_protocols_that_was_not_asked_for_loses,
        chunks_that_others_read_differently_are_cut_at_once,
        chunks_that_are_bad_from_the_begin_lose_and_the_race_goes_on,
        interim_answers_without_end_lose,
        trailers_without_end_are_cut,
        other_statuses_lose_by_their_number,
        bodies_are_framed_for_the_client_that_asked,
        odd_bodies_are_framed_like_others,
        head_204_and_304_have_no_body_whatever_the_backend_sends,
        bytes_behind_an_answer_reach_no_client,
        odd_heads_pass,
        fields_pass_in_order_and_what_is_missing_is_added;
    streams:
        an_event_reaches_the_client_before_the_backend_sends_the_next,
        events_of_known_length_and_until_the_close_are_passed_at_once,
        each_piece_of_a_slow_body_arrives_before_the_next_is_sent_however_it_is_framed,
        a_long_poll_is_answered_when_its_time_has_come,
        an_early_refusal_of_an_upload_is_not_the_end_of_the_race,
        an_early_refusal_of_a_short_upload_is_told,
        long_answers_arrive_whole_one_after_another,
        an_answer_that_breaks_off_far_from_its_begin_does_not_look_whole;
    offsets:
        an_answer_that_breaks_off_after_any_byte_never_looks_whole_and_loses_no_byte_before_an_end_in_order;
}
