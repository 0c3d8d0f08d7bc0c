//! A page, as a browser reads it.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use html5ever::tendril::TendrilSink as _;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// A parsed page.
pub struct Page {
    dom: RcDom,
    /// What the standard calls parse errors.
    pub errors: Vec<String>,
}

impl Page {
    pub fn parse(html: &str) -> Self {
        let dom = parse_document(RcDom::default(), ParseOpts::default()).one(html);
        let errors = dom
            .errors
            .borrow()
            .iter()
            .map(ToString::to_string)
            .collect();
        Self { dom, errors }
    }

    fn elements(&self) -> Vec<Handle> {
        let mut found = Vec::new();
        let mut left = vec![self.dom.document.clone()];
        while let Some(node) = left.pop() {
            left.extend(node.children.borrow().iter().rev().cloned());
            if matches!(node.data, NodeData::Element { .. }) {
                found.push(node);
            }
        }
        found
    }

    /// How many elements of that name there are.
    pub fn count(&self, wanted: &str) -> usize {
        self.elements()
            .iter()
            .filter(|node| name(node) == wanted)
            .count()
    }

    /// What stands in each element of that name.
    pub fn texts(&self, wanted: &str) -> Vec<String> {
        let all = self.elements();
        all.iter()
            .filter(|node| name(node) == wanted)
            .map(text)
            .collect()
    }

    /// Every attribute: of which element, its name, its value.
    pub fn attributes(&self) -> Vec<(String, &'static str, String)> {
        let mut found = Vec::new();
        for node in self.elements() {
            for (attribute, value) in attributes(&node) {
                // Names are few; a test does not mind keeping them.
                found.push((name(&node), &*attribute.leak(), value));
            }
        }
        found
    }

    /// All values of an attribute.
    pub fn values(&self, wanted: &str) -> Vec<String> {
        let all = self.attributes().into_iter();
        all.filter(|(_, name, _)| *name == wanted)
            .map(|(.., value)| value)
            .collect()
    }

    /// What stands in the element of that id.
    pub fn by_id(&self, id: &str) -> String {
        let has = |node: &&Handle| attributes(node).contains(&("id".to_owned(), id.to_owned()));
        text(self.elements().iter().find(has).unwrap())
    }

    /// The cells of every row of every table.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let all = self.elements();
        let rows = all.iter().filter(|node| name(node) == "tr");
        rows.map(|row| row.children.borrow().iter().map(text).collect())
            .collect()
    }

    /// The content security policy, which has to come before everything that it is about.
    pub fn policy(&self) -> String {
        let all = self.elements();
        let is_policy = |node: &&Handle| {
            attributes(node)
                .iter()
                .any(|(_, value)| value == "Content-Security-Policy")
        };
        let at = all.iter().position(|node| is_policy(&node)).unwrap();
        assert!(
            all[..at]
                .iter()
                .all(|node| ["html", "head", "meta"].contains(&&*name(node)))
        );
        let found = attributes(&all[at]);
        found
            .into_iter()
            .find(|(name, _)| name == "content")
            .unwrap()
            .1
    }
}

fn name(node: &Handle) -> String {
    match &node.data {
        NodeData::Element { name, .. } => name.local.to_string(),
        _ => String::new(),
    }
}

fn attributes(node: &Handle) -> Vec<(String, String)> {
    match &node.data {
        NodeData::Element { attrs, .. } => {
            let attrs = attrs.borrow();
            let both =
                |attr: &html5ever::Attribute| (attr.name.local.to_string(), attr.value.to_string());
            attrs.iter().map(both).collect()
        }
        _ => Vec::new(),
    }
}

fn text(node: &Handle) -> String {
    match &node.data {
        NodeData::Text { contents } => contents.borrow().to_string(),
        _ => node.children.borrow().iter().map(text).collect(),
    }
}
