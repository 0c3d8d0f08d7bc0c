//! An entry as programs read it, and the names of namespaces.

use crate::failure::Result;
use crate::units;
use keepwarm::{DiskStore, EntryInfo, NamespaceId, StoredAs};
use serde::Serialize;
use std::collections::HashMap;

/// An entry as `--format json` prints it. Members may be added, never changed.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    key: String,
    digest: String,
    length: u64,
    disk_bytes: u64,
    stored_as: &'static str,
    namespace: Option<String>,
    namespace_id: Option<String>,
    build_nanos: u64,
    put_at: String,
    last_used: String,
    hits: u64,
}

impl Item {
    pub(crate) fn new(info: &EntryInfo, names: &mut Names<'_>) -> Result<Self> {
        Ok(Self {
            key: info.key.to_string(),
            digest: info.digest.to_string(),
            length: info.length,
            disk_bytes: info.disk_bytes,
            stored_as: stored_as(info.stored_as),
            namespace: names.get(info.namespace)?,
            namespace_id: units::namespace_id(info.namespace),
            build_nanos: units::nanos(info.build_cost),
            put_at: units::timestamp(info.put_at),
            last_used: units::timestamp(info.last_used),
            hits: info.hits,
        })
    }
}

/// In a pack, in a file of its own, or equal to another entry's.
pub(crate) fn stored_as(how: StoredAs) -> &'static str {
    match how {
        StoredAs::Inline => "inline",
        StoredAs::Object => "object",
        StoredAs::Shared => "shared",
        _ => "other",
    }
}

/// The names of namespaces, each looked up once.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    store: &'a DiskStore,
    known: HashMap<NamespaceId, Option<String>>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(store: &'a DiskStore) -> Self {
        Self {
            store,
            known: HashMap::new(),
        }
    }

    /// The name; `None` outside every namespace, and where the directory does not know it.
    pub(crate) fn get(&mut self, id: NamespaceId) -> Result<Option<String>> {
        if id == NamespaceId::NONE {
            return Ok(None);
        }
        if let Some(name) = self.known.get(&id) {
            return Ok(name.clone());
        }
        let name = self.store.namespace_name(id)?;
        self.known.insert(id, name.clone());
        Ok(name)
    }

    /// The name for people, or the id in brackets where nobody knows it.
    pub(crate) fn shown(&mut self, id: NamespaceId) -> Result<String> {
        let name = self.get(id)?;
        Ok(shown(id, name.as_deref()))
    }
}

/// A namespace for people.
pub(crate) fn shown(id: NamespaceId, name: Option<&str>) -> String {
    match (name, units::namespace_id(id)) {
        (Some(name), _) => units::printable(name),
        (None, Some(id)) => format!("({id})"),
        (None, None) => "-".to_owned(),
    }
}
