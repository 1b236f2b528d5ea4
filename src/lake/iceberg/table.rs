//! A table of a catalog as its writer sees it: where its files go, and which it has for a date.

use rayon::prelude::*;
use serde_json::Value;

use crate::error::Result;
use crate::lake::catalog::Name;
use crate::lake::iceberg::catalogs;
use crate::lake::iceberg::changes::{Change, Found, Outcome};
use crate::lake::iceberg::manifest::{self, Content, Entry, Manifest};
use crate::lake::iceberg::metadata::{Metadata, parse};
use crate::lake::location::Location;
use crate::lake::store::Store;
use crate::lake::table::{Dates, Pin};

/// The partition column of the date; the first.
pub const DATE: &str = "ds";

/// A table as its catalog has it now.
#[derive(Debug)]
pub struct Table {
    /// `iceberg://CATALOG/NAMESPACE.TABLE`.
    pub place: Location,
    pub name: Name,
    /// The metadata file, and all that it says.
    pub found: Found,
    pub metadata: Metadata,
}

impl Table {
    /// The table that a place names; none where the catalog has none.
    pub fn load(place: &Location) -> Result<Option<Table>> {
        let name = Name::parse(&place.to_string())?;
        let Some(found) = catalogs::load(&name)? else { return Ok(None) };
        let metadata = Metadata::of(&found.content, place)?;
        Ok(Some(Table { place: place.clone(), name, found, metadata }))
    }

    /// All that the metadata says.
    pub fn content(&self) -> &Value {
        &self.found.content
    }

    /// Changes the table, unless it is no longer as it was loaded.
    pub fn commit(&self, store: &dyn Store, change: &Change) -> Result<Outcome> {
        catalogs::commit(store, &self.name, (&self.found, &self.metadata_root()), change)
    }

    /// Where data files go, as the metadata writes places.
    pub fn data_root(&self) -> String {
        self.folder("write.data.path", "data")
    }

    /// Where manifests and metadata files go.
    pub fn metadata_root(&self) -> String {
        self.folder("write.metadata.path", "metadata")
    }

    fn folder(&self, property: &str, usual: &str) -> String {
        let own = self.metadata.properties.get(property);
        let place = own.cloned().unwrap_or_else(|| format!("{}/{usual}", trimmed(&self.metadata.location)));
        trimmed(&place).to_string()
    }

    /// The manifests of the current snapshot.
    pub fn manifests(&self) -> Result<Vec<Manifest>> {
        match self.metadata.snapshot(&Pin::default(), &self.place)? {
            Some(snapshot) => manifest::manifests(&snapshot.manifest_list(&self.place)?),
            None => Ok(Vec::new()),
        }
    }

    /// Where a spec's partitions have the date.
    pub fn date_place(&self, spec: i32) -> Option<usize> {
        let schema = self.metadata.schema(&self.place).ok()?;
        let date = schema.fields.iter().find(|f| f.name == DATE)?.id;
        let fields = &self.metadata.spec(spec)?.fields;
        fields.iter().position(|f| f.source_id == date && f.transform == "identity")
    }

    /// The date of a file; none where its partition does not say it.
    pub fn date_of<'e>(&self, entry: &'e Entry) -> Option<&'e str> {
        entry.partition.get(self.date_place(entry.spec)?)?.as_str()
    }

    /// Whether a manifest can have files of the date.
    pub fn may_hold(&self, manifest: &Manifest, date: &str) -> bool {
        self.date_place(manifest.spec).is_none_or(|place| manifest.may_hold(place, date))
    }

    /// A file's name below the data files' root; of one that lies elsewhere its whole place.
    pub fn below(&self, path: &str) -> String {
        let rest = path.strip_prefix(self.data_root().as_str()).and_then(|rest| rest.strip_prefix('/'));
        rest.unwrap_or(path).to_string()
    }
}

fn trimmed(place: &str) -> &str {
    place.trim_end_matches('/')
}

/// Where the data files of a table stand, and those of each date, or of one date, by their names below that; none of
/// a table that is not there.
pub fn dates(place: &Location, date: Option<&str>) -> Result<(Location, Dates)> {
    let Some(table) = Table::load(place)? else { return Ok((place.clone(), Dates::new())) };
    let mut manifests = table.manifests()?;
    manifests.retain(|m| date.is_none_or(|date| table.may_hold(m, date)));
    let entries: Vec<Vec<Entry>> = manifests.par_iter().map(|m| m.entries(false)).collect::<Result<_>>()?;
    let mut dates = Dates::new();
    for entry in entries.iter().flatten().filter(|e| e.content == Content::Data) {
        let of = table.date_of(entry).unwrap_or_default().to_string();
        if date.is_none_or(|date| date == of) {
            dates.entry(of).or_default().insert(table.below(&entry.path));
        }
    }
    Ok((parse(&table.data_root())?, dates))
}
