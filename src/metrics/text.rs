//! A sample as Prometheus reads it: its text format, version 0.0.4. Names and labels are an interface: boards and alerts of others
//! name them. No label holds a text that a client or an answer could choose.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{self, encode};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::histogram::Histogram;
use super::races::RaceEnd;
use super::sample::{BackendSample, BackendState, Sample};

/// The media type of the text.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The upper bounds of a histogram's buckets, in microseconds: from a backend on the same host to one at its timeout.
const BOUNDS: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Of a family that is one series.
const NONE: [(&str, &str); 0] = [];

/// Writes the sample.
pub fn text(sample: Sample) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes all");
    text
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let to = &mut encoder;
        self.encode_races(to)?;
        self.encode_replies(to)?;
        self.encode_clients(to)?;
        self.encode_legs(to)?;
        self.encode_backends(to)?;
        self.encode_program(to)?;
        self.encode_process(to)
    }
}

impl Sample {
    fn encode_races(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let ends = [RaceEnd::Won, RaceEnd::Final, RaceEnd::Best, RaceEnd::Lost, RaceEnd::Abandoned];
        let rows = ends.map(|end| ([("verdict", end.word())], self.races.count_of(end)));
        counters(
            to,
            "red_tentacle_races",
            "Races that are over, the last of their legs included, by how they ended for their client.",
            rows,
        )?;
        let rows = self.races.late_starts().map(|(why, count)| ([("why", why)], count));
        let help = "Legs that did not start with their race, by why they started: their time had come, or all before them had \
                    failed; refused ones lacked a budget at their time.";
        counters(to, "red_tentacle_hedges", help, rows)?;
        if let Some(delay) = self.hedge_delay {
            let help = "The age of a race at which hedges by percentile start.";
            gauges(to, "red_tentacle_hedge_delay_seconds", help, [(NONE, delay.as_secs_f64())])?;
        }
        let help = "From the last byte of a request to the head of its reply, of races that had a reply.";
        let mut family =
            to.encode_descriptor("red_tentacle_request_duration_seconds", help, None, MetricType::Histogram)?;
        encode_histogram(&mut family, self.races.durations())
    }

    fn encode_replies(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let rows = self.replies.classes().flat_map(|(class, theirs, own)| {
            [([("by", "backend"), ("class", class)], theirs), ([("by", "proxy"), ("class", class)], own)]
        });
        counters(
            to,
            "red_tentacle_replies",
            "Replies to clients, by whether a backend's answer was passed on or the proxy made its own.",
            rows,
        )?;
        let rows = self.replies.refusals().map(|(status, count)| ([("code", status)], count));
        counters(to, "red_tentacle_refusals", "Replies with which the proxy refused a request, by status.", rows)?;
        let rows = self.replies.tls_failures().map(|(why, count)| ([("why", why)], count));
        let help = "Clients with whom TLS failed, by whether they do not take the certificate that they were shown.";
        counters(to, "red_tentacle_tls_failures", help, rows)
    }

    fn encode_clients(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let clients = &self.clients;
        let help = "Requests that are complete and whose reply is not sent yet.";
        gauges(to, "red_tentacle_requests_in_flight", help, [(NONE, clients.requests)])?;
        let active = (clients.requests + clients.tunnels).min(clients.connections);
        let rows = [([("state", "active")], active), ([("state", "idle")], clients.connections - active)];
        let help = "Connections of clients: active ones have a complete request or a tunnel, idle ones wait for a request or send it.";
        gauges(to, "red_tentacle_connections", help, rows)?;
        let help =
            "The most connections of clients: what --max-connections says, or the limits of open files and memory.";
        gauges(to, "red_tentacle_connections_max", help, [(NONE, clients.connections_max)])?;
        let help = "1 if new clients wait, or did just now, since every place is taken and none can be given up.";
        gauges(to, "red_tentacle_clients_waiting", help, [(NONE, u64::from(clients.are_waiting))])?;
        let rows = [([("kind", "body")], clients.relays), ([("kind", "tunnel")], clients.tunnels)];
        gauges(to, "red_tentacle_relays", "Bodies and tunnels that are under way to clients.", rows)
    }

    fn encode_legs(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let rows = self.backends.iter().flat_map(|backend| {
            let labels = |outcome| [("backend", backend.label.as_str()), ("outcome", outcome)];
            backend.stats.ends().map(move |(outcome, count)| (labels(outcome), count))
        });
        let help = "Legs of races that are over, by how they ended: late is a success that came after the winner.";
        counters(to, "red_tentacle_legs", help, rows)?;
        let help = "From the start of a leg to the complete head of its answer, of answers that count as success.";
        let mut family =
            to.encode_descriptor("red_tentacle_leg_duration_seconds", help, None, MetricType::Histogram)?;
        for backend in &self.backends {
            encode_histogram(&mut family.encode_family(&backend.labels())?, backend.stats.answers())?;
        }
        let rows = self.backends.iter().map(|backend| (backend.labels(), backend.stats.saved().as_secs_f64()));
        let help = "By how much a backend has beaten the next success at least, in all: what clients would have waited longer without it.";
        counters(to, "red_tentacle_saved_seconds", help, rows)?;
        let rows = self.backends.iter().map(|backend| (backend.labels(), backend.stats.rescues()));
        let help = "Races that only this backend could win, since all others had failed.";
        counters(to, "red_tentacle_rescues", help, rows)?;
        let rows = self.backends.iter().map(|backend| (backend.labels(), backend.stats.differing()));
        let help = "Late successes of a backend whose head says something else of the content than the winner's.";
        counters(to, "red_tentacle_differing_answers", help, rows)?;
        let rows = self.backends.iter().map(|backend| (backend.labels(), backend.stats.broken()));
        let help = "Answers of a backend whose body broke off, or stood still for too long, so that their clients were cut off.";
        counters(to, "red_tentacle_broken_answers", help, rows)
    }

    fn encode_backends(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let rows = self.backends.iter().flat_map(|backend| {
            BackendState::WORDS.map(|(state, word)| {
                ([("backend", backend.label.as_str()), ("state", word)], u64::from(state == backend.state))
            })
        });
        gauges(
            to,
            "red_tentacle_backend_state",
            "1 for the state that a backend is in: held is asked now and then, benched by a probe now and then.",
            rows,
        )?;
        let rows = self.backends.iter().flat_map(|backend| {
            let labels = |why| [("backend", backend.label.as_str()), ("why", why)];
            backend.stats.benched().map(move |(why, count)| (labels(why), count))
        });
        let help = "How often a backend was benched: after failures in a row, or by Retry-After.";
        counters(to, "red_tentacle_benched", help, rows)?;
        let help = "Races for which every backend was benched, so that all were asked.";
        counters(to, "red_tentacle_all_benched_races", help, [(NONE, self.races.all_benched())])?;
        let rows = self.backends.iter().map(|backend| {
            let last = backend.stats.last_success().unwrap_or_else(|| backend.stats.listed());
            (backend.labels(), since_1970(last))
        });
        let help = "When a backend last gave an answer that counts; before the first, when it was listed.";
        gauges(to, "red_tentacle_backend_last_success_timestamp_seconds", help, rows)?;
        let rows = self.backends.iter().map(|backend| (backend.labels(), backend.unanswered));
        let help = "Legs that have lost and still wait for the answer of their backend.";
        gauges(to, "red_tentacle_unanswered_legs", help, rows)?;
        let help = "Connections that were opened to backends, also to those that are not listed any more.";
        counters(to, "red_tentacle_backend_connections_opened", help, [(NONE, self.connections_opened)])?;
        let help = "Requests that were sent to backends on a connection that was open already.";
        counters(to, "red_tentacle_backend_connections_reused", help, [(NONE, self.connections_reused)])
    }

    fn encode_program(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Lines of the log that were lost, since standard error was too slow or took none.";
        counters(to, "red_tentacle_log_lines_dropped", help, [(NONE, self.log_lines_dropped)])?;
        if !self.certificates.is_empty() {
            let rows =
                self.certificates.iter().map(|(file, not_after)| ([("file", file.as_str())], since_1970(*not_after)));
            let help = "Until when a certificate for clients is valid.";
            gauges(to, "red_tentacle_tls_certificate_not_after_timestamp_seconds", help, rows)?;
        }
        let help = "1 if the list of backends was taken when it was last read.";
        gauges(to, "red_tentacle_list_loaded", help, [(NONE, u64::from(self.is_list_loaded))])?;
        let help = "When the list of backends last changed.";
        gauges(to, "red_tentacle_list_changed_timestamp_seconds", help, [(NONE, since_1970(self.list_changed))])?;
        let rows = [([("version", env!("CARGO_PKG_VERSION"))], 1_u64)];
        gauges(to, "red_tentacle_build_info", "The version that runs.", rows)
    }

    fn encode_process(&self, to: &mut DescriptorEncoder) -> fmt::Result {
        let process = &self.process;
        counters(to, "process_cpu_seconds", "CPU time of the process.", [(NONE, process.cpu_seconds)])?;
        let rows = [
            ("process_resident_memory_bytes", "Memory of the process that is in RAM.", process.resident_bytes),
            ("process_open_fds", "Open file descriptors.", process.open_files),
            ("process_max_fds", "The most open file descriptors.", process.open_files_max),
            ("process_threads", "Threads of the process.", process.threads),
        ];
        for (name, help, value) in rows {
            if let Some(value) = value {
                gauges(to, name, help, [(NONE, value)])?;
            }
        }
        gauges(to, "process_start_time_seconds", "When the proxy was started.", [(NONE, since_1970(self.started))])
    }
}

impl BackendSample {
    fn labels(&self) -> [(&'static str, &str); 1] {
        [("backend", &self.label)]
    }
}

/// Writes a family of counters; the encoder adds `_total` to the name.
fn counters<L: EncodeLabelSet, N: EncodeCounterValue>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (L, N)>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in rows {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, N, u64>(&count, None)?;
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (L, N)>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn encode_histogram(to: &mut MetricEncoder, histogram: &Histogram) -> fmt::Result {
    let snapshot = histogram.snapshot();
    let mut below = 0;
    let buckets = BOUNDS.map(|micros| {
        let within = snapshot.count_within(Duration::from_micros(micros.into()));
        let count = within - below;
        below = within;
        (f64::from(micros) / 1e6, count)
    });
    to.encode_histogram::<NoLabelSet>(snapshot.sum().as_secs_f64(), snapshot.count(), &buckets, None)
}

/// Seconds since 1970, to the millisecond.
fn since_1970(time: SystemTime) -> f64 {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^52 for 140,000 years")]
    let millis = millis as f64;
    millis / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::*;
    use crate::message::Outcome;
    use crate::metrics::{BackendStats, ClientsSample, LateStart, LegEnd, ProcessSample, RaceStats, ReplyStats};

    fn backend(label: &str, state: BackendState) -> BackendSample {
        let listed = UNIX_EPOCH + Duration::from_millis(1_500);
        BackendSample {
            is_insecure: false,
            label: label.to_owned(),
            name: label.to_owned(),
            url: label.to_owned(),
            stats: Arc::new(BackendStats::new(listed)),
            state,
            benched: None,
            unanswered: 2,
            addresses: None,
        }
    }

    fn sample(backends: Vec<BackendSample>) -> Sample {
        let (races, replies) = (Arc::new(RaceStats::default()), Arc::new(ReplyStats::default()));
        let clients = ClientsSample {
            connections: 9,
            connections_max: 16,
            requests: 3,
            relays: 2,
            tunnels: 1,
            are_waiting: true,
        };
        let process = ProcessSample { cpu_seconds: 1.5, threads: Some(7), ..ProcessSample::default() };
        let (list_changed, started) = (UNIX_EPOCH, UNIX_EPOCH);
        Sample {
            races,
            replies,
            hedge_delay: Some(Duration::from_millis(250)),
            backends,
            list_changed,
            is_list_loaded: true,
            clients,
            connections_opened: 4,
            connections_reused: 5,
            certificates: vec![("/a.pem".to_owned(), UNIX_EPOCH + Duration::from_secs(1_800_000_000))],
            log_lines_dropped: 6,
            process,
            started,
        }
    }

    fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }

    #[test]
    fn every_figure_stands_under_its_name() {
        let mut sample = sample(vec![backend("a", BackendState::Racing), backend("b", BackendState::Held)]);
        let ok = Outcome::Status(StatusCode::OK);
        let (started, ended) = (Duration::from_millis(1), Duration::from_millis(5));
        let won = LegEnd { outcome: &ok, has_won: true, is_success: true, started, ended };
        let lost = LegEnd { outcome: &Outcome::Refused, has_won: false, is_success: false, ..won };
        Arc::get_mut(&mut sample.races).expect("its own").count(RaceEnd::Won, Some(ended), &[won, lost]);
        sample.races.count_late_starts(LateStart::Time, 2);
        sample.races.count_late_starts(LateStart::Refused, 1);
        sample.races.count_all_benched();
        for was_asked_for in [false, true, true] {
            sample.backends[0].stats.count_bench(was_asked_for);
        }
        sample.backends[0].stats.count(&won, UNIX_EPOCH + Duration::from_secs(9));
        sample.backends[0].stats.note_success(UNIX_EPOCH + Duration::from_secs(9));
        sample.backends[0].stats.count_broken();
        for outcome in [&Outcome::Refused, &Outcome::Unfit(String::new())] {
            sample.backends[1].stats.count(&LegEnd { outcome, ..lost }, UNIX_EPOCH + Duration::from_secs(9));
        }
        sample.replies.count_answer(StatusCode::OK);
        sample.replies.count_refusal(StatusCode::BAD_GATEWAY);
        sample.replies.count_tls_failure(true);
        let text = text(sample);
        let rows = [
            ("red_tentacle_races_total{verdict=\"won\"}", "1"),
            ("red_tentacle_races_total{verdict=\"abandoned\"}", "0"),
            ("red_tentacle_hedges_total{why=\"time\"}", "2"),
            ("red_tentacle_hedges_total{why=\"failure\"}", "0"),
            ("red_tentacle_hedges_total{why=\"refused\"}", "1"),
            ("red_tentacle_hedge_delay_seconds", "0.25"),
            ("red_tentacle_replies_total{by=\"backend\",class=\"2xx\"}", "1"),
            ("red_tentacle_replies_total{by=\"proxy\",class=\"5xx\"}", "1"),
            ("red_tentacle_refusals_total{code=\"502\"}", "1"),
            ("red_tentacle_tls_failures_total{why=\"certificate\"}", "1"),
            ("red_tentacle_tls_failures_total{why=\"other\"}", "0"),
            ("red_tentacle_request_duration_seconds_bucket{le=\"0.0025\"}", "0"),
            ("red_tentacle_request_duration_seconds_bucket{le=\"0.01\"}", "1"),
            ("red_tentacle_request_duration_seconds_bucket{le=\"+Inf\"}", "1"),
            ("red_tentacle_request_duration_seconds_sum", "0.005"),
            ("red_tentacle_request_duration_seconds_count", "1"),
            ("red_tentacle_requests_in_flight", "3"),
            ("red_tentacle_connections{state=\"active\"}", "4"),
            ("red_tentacle_connections{state=\"idle\"}", "5"),
            ("red_tentacle_connections_max", "16"),
            ("red_tentacle_clients_waiting", "1"),
            ("red_tentacle_relays{kind=\"body\"}", "2"),
            ("red_tentacle_relays{kind=\"tunnel\"}", "1"),
            ("red_tentacle_legs_total{backend=\"a\",outcome=\"won\"}", "1"),
            ("red_tentacle_legs_total{backend=\"b\",outcome=\"refused\"}", "1"),
            ("red_tentacle_legs_total{backend=\"b\",outcome=\"unfit\"}", "1"),
            ("red_tentacle_legs_total{backend=\"b\",outcome=\"reset\"}", "0"),
            ("red_tentacle_leg_duration_seconds_bucket{backend=\"a\",le=\"0.005\"}", "1"),
            ("red_tentacle_leg_duration_seconds_sum{backend=\"a\"}", "0.004"),
            ("red_tentacle_leg_duration_seconds_count{backend=\"b\"}", "0"),
            ("red_tentacle_saved_seconds_total{backend=\"a\"}", "0.0"),
            ("red_tentacle_rescues_total{backend=\"a\"}", "0"),
            ("red_tentacle_differing_answers_total{backend=\"b\"}", "0"),
            ("red_tentacle_broken_answers_total{backend=\"a\"}", "1"),
            ("red_tentacle_backend_state{backend=\"a\",state=\"racing\"}", "1"),
            ("red_tentacle_backend_state{backend=\"b\",state=\"racing\"}", "0"),
            ("red_tentacle_backend_state{backend=\"b\",state=\"benched\"}", "0"),
            ("red_tentacle_benched_total{backend=\"a\",why=\"failures\"}", "1"),
            ("red_tentacle_benched_total{backend=\"a\",why=\"retry-after\"}", "2"),
            ("red_tentacle_all_benched_races_total", "1"),
            ("red_tentacle_backend_state{backend=\"b\",state=\"held\"}", "1"),
            ("red_tentacle_backend_last_success_timestamp_seconds{backend=\"a\"}", "9.0"),
            ("red_tentacle_backend_last_success_timestamp_seconds{backend=\"b\"}", "1.5"),
            ("red_tentacle_unanswered_legs{backend=\"a\"}", "2"),
            ("red_tentacle_backend_connections_opened_total", "4"),
            ("red_tentacle_backend_connections_reused_total", "5"),
            ("red_tentacle_log_lines_dropped_total", "6"),
            ("red_tentacle_tls_certificate_not_after_timestamp_seconds{file=\"/a.pem\"}", "1800000000.0"),
            ("red_tentacle_list_loaded", "1"),
            ("red_tentacle_list_changed_timestamp_seconds", "0.0"),
            ("process_cpu_seconds_total", "1.5"),
            ("process_threads", "7"),
            ("process_start_time_seconds", "0.0"),
        ];
        for (series, expected) in rows {
            assert_eq!(value(&text, series), Some(expected), "{series} in {text}");
        }
        assert!(text.contains(concat!("red_tentacle_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")));
        assert!(!text.contains("process_open_fds"), "what can't be read is absent");
        assert!(!text.contains("outcome=\"final\""), "what is rare is absent until there is one");
    }

    #[test]
    fn a_backend_has_fewer_than_50_series_and_no_label_breaks_a_line() {
        let odd = "http://a/\"}\\ 1\nb";
        let text = text(sample(vec![backend("a", BackendState::Racing), backend(odd, BackendState::Paused)]));
        for label in ["{backend=\"a\"", "{backend=\"http://a/\\\"}\\\\ 1\\nb\""] {
            let series = text.lines().filter(|line| line.contains(label)).count();
            assert!((40..50).contains(&series), "{series} of {label}");
        }
        let own = text.lines().filter(|line| !line.starts_with('#') && !line.contains("{backend=")).count();
        assert!(own < 90, "{own}");
        let is_line =
            |line: &str| line.starts_with("# ") || line.starts_with("red_tentacle_") || line.starts_with("process_");
        assert!(text.lines().all(is_line), "{text}");
    }
}
