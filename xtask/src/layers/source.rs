//! Reads the modules of a crate and their imports from its source files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use syn::{Attribute, Item, ItemMod, spanned::Spanned as _, visit::Visit as _};

use super::{
    module::{Module, ModulePath, Modules},
    paths::{Paths, is_for_tests},
};

/// Reads the crate in this folder, starting at `src/lib.rs` or `src/main.rs`.
///
/// # Errors
/// When a file is missing or cannot be parsed.
pub(super) fn read(folder: &Path) -> anyhow::Result<Modules> {
    let src = folder.join("src");
    let root = ["lib.rs", "main.rs"].into_iter().find(|root| src.join(root).is_file());
    let root = root.with_context(|| format!("{} has neither lib.rs nor main.rs", src.display()))?;
    let mut reader = Reader { src, modules: Modules::new() };
    reader.file(Vec::new(), PathBuf::from(root))?;
    Ok(reader.modules)
}

struct Reader {
    src: PathBuf,
    modules: Modules,
}

impl Reader {
    fn file(&mut self, module: ModulePath, file: PathBuf) -> anyhow::Result<()> {
        let text =
            fs::read_to_string(self.src.join(&file)).with_context(|| self.src.join(&file).display().to_string())?;
        let syntax = syn::parse_file(&text).with_context(|| self.src.join(&file).display().to_string())?;
        self.module(module, &file, &syntax.items)
    }

    fn module(&mut self, path: ModulePath, file: &Path, items: &[Item]) -> anyhow::Result<()> {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        let mut paths = Paths::new(&mut module);
        let mut children = Vec::new();
        for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
            match item {
                Item::Mod(child) => children.push(child),
                item => paths.visit_item(item),
            }
        }
        self.modules.insert(path.clone(), module);
        for child in children {
            self.child(&path, file, child)?;
        }
        Ok(())
    }

    fn child(&mut self, parent: &ModulePath, file: &Path, item: &ItemMod) -> anyhow::Result<()> {
        let name = item.ident.to_string();
        let path: ModulePath = parent.iter().cloned().chain([name.clone()]).collect();
        if let Some((_, items)) = &item.content {
            return self.module(path, file, items);
        }
        let stem = file.file_stem().unwrap_or_default();
        let folder = match stem.to_str() {
            Some("mod" | "lib" | "main") => file.with_file_name(""),
            _ => file.with_extension(""),
        };
        let candidates = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
        let found = candidates.into_iter().find(|candidate| self.src.join(candidate).is_file());
        let line = item.span().start().line;
        self.file(path, found.with_context(|| format!("{}:{line}: no file for `mod {name}`", file.display()))?)
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
