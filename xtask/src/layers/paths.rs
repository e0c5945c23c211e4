//! Finds the paths in a module's code: in imports, types, expressions, macros and attributes.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ImplItemFn, ItemUse, Macro, Meta, MetaList, UseTree, VisRestricted,
    spanned::Spanned as _,
    visit::{self, Visit},
};

use super::module::{Module, PathUse, Use};

/// A visitor that collects paths in a module.
pub(super) struct Paths<'a> {
    module: &'a mut Module,
}

impl<'a> Paths<'a> {
    pub(super) fn new(module: &'a mut Module) -> Self {
        Self { module }
    }

    fn use_tree(&mut self, tree: &UseTree, mut segments: Vec<String>) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => {
                segments.push(path.ident.to_string());
                self.use_tree(&path.tree, segments);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, segments.clone())),
            UseTree::Glob(_) => self.bind("*".to_owned(), segments, line),
            UseTree::Name(name) if name.ident == "self" => {
                let name = segments.last().cloned().unwrap_or_default();
                self.bind(name, segments, line);
            }
            UseTree::Name(name) => {
                segments.push(name.ident.to_string());
                self.bind(name.ident.to_string(), segments, line);
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    segments.push(rename.ident.to_string());
                }
                self.bind(rename.rename.to_string(), segments, line);
            }
        }
    }

    fn bind(&mut self, name: String, segments: Vec<String>, line: usize) {
        self.module.uses.push(Use { name, path: PathUse { segments, line } });
    }

    /// Collects paths in the tokens of a macro or an attribute, which have no syntax tree: a path there is a sequence
    /// of identifiers joined by `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = PathUse { segments: Vec::new(), line: 0 };
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let follows_colons = colons == 2;
                    if !follows_colons {
                        self.add_path(&mut path);
                        path.line = ident.span().start().line;
                    }
                    // A path with a leading `::` names another crate.
                    if !(follows_colons && path.segments.is_empty()) {
                        path.segments.push(ident.to_string());
                    }
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.add_path(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.add_path(&mut path);
    }

    /// Adds a path of at least two segments to the module, and clears it.
    fn add_path(&mut self, path: &mut PathUse) {
        let segments = std::mem::take(&mut path.segments);
        if segments.len() > 1 {
            self.module.paths.push(PathUse { segments, line: path.line });
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.use_tree(&item.tree, Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A path with a leading `::` names another crate.
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.module.paths.push(PathUse { segments, line: path.span().start().line });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        visit::visit_macro(self, item);
        self.tokens(item.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        self.tokens(list.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.visit_meta_list(list);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    /// `pub(in path)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

/// Whether an item is compiled for tests only; the rules do not apply to tests.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test") && !condition.contains("not")
        }
        _ => false,
    })
}
