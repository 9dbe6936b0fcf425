//! A tracing layer that sends each event to journald with its fields, and those of the spans around it.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::queue::LineQueue;

/// Longest field name that journald accepts.
const NAME_BYTES_MAX: usize = 64;
/// Prefix of our field names, so that they do not collide with those of other programs.
const PREFIX: &str = "GATEHOUSE_";

/// The layer.
pub(super) struct Journald(pub(super) LineQueue<Vec<String>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journald {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = context.event_scope(event).into_iter().flatten();
        for span in spans {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.list.extend(of_span.list.iter().cloned());
            }
        }
        self.0.push(entry(event, &fields));
    }
}

/// Sends an entry to journald; blocks while journald does not read.
#[allow(clippy::needless_pass_by_value, reason = "the queue hands its entries over")]
pub(super) fn send(entry: Vec<String>) {
    let entry: Vec<&str> = entry.iter().map(String::as_str).collect();
    // There is no other place to report an error.
    let _ = systemd::journal::send(&entry);
}

/// The entry about entries that were dropped.
pub(super) fn dropped(entries: u64) -> Vec<String> {
    vec![
        format!("MESSAGE=lines of the log were dropped: it was not read fast enough dropped={entries}"),
        format!("PRIORITY={}", priority(Level::WARN)),
        "SYSLOG_IDENTIFIER=gatehoused".to_owned(),
        format!("{PREFIX}DROPPED={entries}"),
    ]
}

/// The fields of an event or a span.
#[derive(Default)]
struct Fields {
    message: String,
    list: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

impl Fields {
    fn put(&mut self, name: &'static str, value: String) {
        match name {
            "message" => self.message = value,
            _ => self.list.push((name, value)),
        }
    }
}

/// The fields of one journal entry. The message repeats the fields of the event, because `journalctl` shows only the message.
fn entry(event: &Event<'_>, fields: &Fields) -> Vec<String> {
    let meta = event.metadata();
    let mut message = format!("MESSAGE={}", fields.message);
    for (name, value) in &fields.list {
        // Writing to a String cannot fail.
        let _ = write!(message, " {name}={value}");
    }
    let mut entry = vec![
        message,
        format!("PRIORITY={}", priority(*meta.level())),
        "SYSLOG_IDENTIFIER=gatehoused".to_owned(),
        format!("CODE_MODULE={}", meta.target()),
    ];
    if let (Some(file), Some(line)) = (meta.file(), meta.line()) {
        entry.push(format!("CODE_FILE={file}"));
        entry.push(format!("CODE_LINE={line}"));
    }
    entry.extend(fields.list.iter().map(|(name, value)| format!("{}={value}", journal_name(name))));
    entry
}

/// syslog's numbers: 3 error, 4 warning, 6 information, 7 debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn journal_name(name: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(upper).take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    struct Capture(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            *self.0.lock().unwrap() = entry(event, &fields);
        }
    }

    #[test]
    fn an_entry_has_priority_correlation_and_a_readable_message() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Capture(Arc::clone(&seen)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(correlation = "00ff", count = 3, "camera is slow");
        });
        let entry = seen.lock().unwrap().clone();
        assert_eq!(entry[0], "MESSAGE=camera is slow correlation=00ff count=3");
        assert_eq!(entry[1], "PRIORITY=4");
        assert!(entry.contains(&"GATEHOUSE_CORRELATION=00ff".to_owned()));
        assert!(entry.contains(&"GATEHOUSE_COUNT=3".to_owned()));
    }

    #[test]
    fn field_names_are_such_that_journald_takes_them() {
        assert_eq!(journal_name("next.retry"), "GATEHOUSE_NEXT_RETRY");
        assert_eq!(journal_name(&"x".repeat(99)).len(), NAME_BYTES_MAX);
    }
}
