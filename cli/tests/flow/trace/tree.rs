//! A trace as text: one line for each span, below its parent.

use testkit::Span;

/// The spans of a trace by service and name, those of SQL statements left out. Where a span is linked to its parent it has
/// `=>` behind it; the order is that of the text, so that two traces of the same shape are the same text.
pub fn tree(spans: &[Span]) -> String {
    let is_root = |span: &&Span| parent(spans, span).is_none();
    let mut roots: Vec<String> = shown(spans).filter(is_root).map(|root| branch(spans, root, 0)).collect();
    roots.sort_unstable();
    roots.concat()
}

/// Fails where a trace is not this one, and shows both.
#[track_caller]
pub fn is(actual: &str, expected: &str) {
    assert!(actual == expected, "this is the trace:\n{actual}\nand not:\n{expected}");
}

fn branch(spans: &[Span], span: &Span, depth: usize) -> String {
    let linked = parent(spans, span).is_some_and(|parent| span.is_linked_to(parent));
    let linked = if linked { " =>" } else { "" };
    let failed = if span.error.is_some() { " !" } else { "" };
    let children = shown(spans).filter(|child| child.parent_span_id.as_ref() == Some(&span.span_id));
    let mut children: Vec<String> = children.map(|child| branch(spans, child, depth + 1)).collect();
    children.sort_unstable();
    let indent = "  ".repeat(depth);
    format!("{indent}{}: {}{linked}{failed}\n{}", span.service, span.name, children.concat())
}

fn parent<'s>(spans: &'s [Span], of: &Span) -> Option<&'s Span> {
    spans.iter().find(|span| Some(&span.span_id) == of.parent_span_id.as_ref())
}

fn shown(spans: &[Span]) -> impl Iterator<Item = &Span> {
    spans.iter().filter(|span| !span.attributes.contains_key("db.system.name"))
}
