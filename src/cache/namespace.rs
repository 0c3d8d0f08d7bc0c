//! A view of a cache in which every key is a key of one namespace.

use super::Cache;
use super::inner::{Backend, Inner};
use super::reports::held;
use crate::artifact::Artifact;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::store::Entry;
use std::fmt;
use std::sync::Arc;

impl Cache {
    /// The part of this cache called `name`: a driver, a compiler, an ABI, a tenant.
    ///
    /// Equal keys in different namespaces, or in none, are different artifacts. Any string is a
    /// name, the empty one too, and names are compared byte for byte. Entries carry the
    /// namespace's [id](NamespaceId), and the name itself is written to the directory once, at
    /// the first put, so that a directory can tell what is in it.
    ///
    /// Nothing is opened or written: the view is made in no time, and is a handle of the cache.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    ///
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let (old, new) = (cache.namespace("driver 1"), cache.namespace("driver 2"));
    /// old.put(&key, vec![1]);
    /// assert!(new.get(&key).is_none() && cache.get(&key).is_none());
    /// assert_eq!(old.get(&key).unwrap().as_slice(), [1]);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn namespace(&self, name: &str) -> Namespace {
        Namespace {
            cache: self.clone(),
            name: name.into(),
            id: NamespaceId::of(name),
        }
    }
}

/// The part of a [`Cache`] that has one name; see [`Cache::namespace`], which has an example.
#[derive(Clone)]
pub struct Namespace {
    cache: Cache,
    name: Arc<str>,
    id: NamespaceId,
}

impl Namespace {
    /// Its name.
    ///
    /// ```
    /// # let cache = keepwarm::Cache::builder().memory_only()?;
    /// assert_eq!(cache.namespace("driver 1").name(), "driver 1");
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its entries carry.
    ///
    /// ```
    /// # let cache = keepwarm::Cache::builder().memory_only()?;
    /// # use keepwarm::NamespaceId;
    /// assert_eq!(cache.namespace("driver 1").id(), NamespaceId::of("driver 1"));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// The cache that it is a part of.
    ///
    /// ```
    /// # let cache = keepwarm::Cache::builder().memory_only()?;
    /// let namespace = cache.namespace("driver 1");
    /// assert_eq!(namespace.cache().stats().lookups, 0);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Like [`Cache::get`].
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let cache = Cache::builder().memory_only()?;
    /// assert!(cache.namespace("x").get(&Fingerprint::from_bytes([1; 32])).is_none());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn get(&self, key: &Fingerprint) -> Option<Artifact> {
        self.get_entry(key).map(|entry| entry.artifact)
    }

    /// Like [`Cache::get_entry`].
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let cache = Cache::builder().memory_only()?;
    /// let (namespace, key) = (cache.namespace("x"), Fingerprint::from_bytes([1; 32]));
    /// namespace.put(&key, vec![1]);
    /// assert_eq!(namespace.get_entry(&key).unwrap().namespace, namespace.id());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn get_entry(&self, key: &Fingerprint) -> Option<Entry> {
        self.inner().get(&self.key(key))
    }

    /// Like [`Cache::contains`].
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let cache = Cache::builder().memory_only()?;
    /// assert!(!cache.namespace("x").contains(&Fingerprint::from_bytes([1; 32])));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn contains(&self, key: &Fingerprint) -> bool {
        self.inner().contains(&self.key(key))
    }

    /// Like [`Cache::put`].
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let cache = Cache::builder().memory_only()?;
    /// let (namespace, key) = (cache.namespace("x"), Fingerprint::from_bytes([1; 32]));
    /// namespace.put(&key, vec![1]);
    /// assert!(namespace.contains(&key) && !cache.contains(&key));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn put(&self, key: &Fingerprint, artifact: impl Into<Artifact>) {
        self.put_entry(key, artifact.into().into());
    }

    /// Like [`Cache::put_entry`]; the entry's namespace becomes this one.
    ///
    /// ```
    /// # use keepwarm::{Cache, Entry, Fingerprint, NamespaceId};
    /// # let cache = Cache::builder().memory_only()?;
    /// let (namespace, key) = (cache.namespace("x"), Fingerprint::from_bytes([1; 32]));
    /// namespace.put_entry(&key, Entry::from(vec![1]));
    /// assert_ne!(namespace.get_entry(&key).unwrap().namespace, NamespaceId::NONE);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn put_entry(&self, key: &Fingerprint, entry: Entry) {
        self.inner().put(&self.key(key), Some(self), entry, None);
    }

    /// Like [`Cache::get_or_insert_with`].
    ///
    /// # Errors
    ///
    /// Those of `build`, and no others.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let built = cache.namespace("x").get_or_insert_with(&key, || Ok::<_, String>(vec![1]))?;
    /// assert_eq!(built.as_slice(), [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_or_insert_with<T, E>(
        &self,
        key: &Fingerprint,
        build: impl FnOnce() -> Result<T, E>,
    ) -> Result<Artifact, E>
    where
        T: Into<Artifact>,
    {
        self.inner().get_or_build(&self.key(key), Some(self), build)
    }

    /// Like [`Cache::remove`].
    ///
    /// # Errors
    ///
    /// If the directory could not be changed; the artifact may then be there still.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let cache = Cache::builder().memory_only()?;
    /// let (namespace, key) = (cache.namespace("x"), Fingerprint::from_bytes([1; 32]));
    /// namespace.put(&key, vec![1]);
    /// assert!(!cache.remove(&key)? && namespace.remove(&key)?);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn remove(&self, key: &Fingerprint) -> Result<bool> {
        self.cache.remove(&self.key(key))
    }

    fn key(&self, key: &Fingerprint) -> Fingerprint {
        key.within(&self.name)
    }

    fn inner(&self) -> &Inner {
        &self.cache.0
    }
}

impl Inner {
    /// Has the name written to the directory, at most once while this cache is open: it serves
    /// those who look into a directory, so one failed try is a fault and no reason for another.
    pub(super) fn name_on_disk(&self, namespace: &Namespace) {
        let Backend::Tiers(tiers) = &self.backend else {
            return;
        };
        if tiers.lower().is_read_only() {
            return;
        }
        let first = held(&self.named, "cache.named").insert(namespace.id);
        if first {
            self.or_fault(tiers.lower().register_namespace(&namespace.name));
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
