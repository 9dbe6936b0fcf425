//! What the parser finds in Rust source: functions, methods of types, constants of durations, undocumented items.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, FnArg, Pat, Signature, Type, Visibility};

use super::Place;
use super::sources::{Language, Source};
use super::words::{DURATION_NAMES, UNIT_NAMES};

/// A function or method with a body.
#[derive(Debug, Clone)]
pub struct Function {
    /// Name, with the type for a method.
    pub name: String,
    /// Where its signature begins.
    pub place: Place,
    /// Lines from the signature to the closing brace, both included.
    pub lines: usize,
    /// Number of parameters without `self`.
    pub parameters: usize,
    /// Names or types of parameters that are tuples.
    pub tuples: Vec<String>,
    /// Whether it serves tests.
    pub is_test: bool,
}

/// A constant of type `Duration`.
#[derive(Debug, Clone)]
pub struct DurationConstant {
    /// Its name.
    pub name: String,
    /// Where it is defined.
    pub place: Place,
    /// Whether it serves tests.
    pub is_test: bool,
}

impl DurationConstant {
    /// Whether the name says what the duration bounds, or is a unit of time.
    pub fn is_named(&self) -> bool {
        UNIT_NAMES.contains(&self.name.as_str())
            || self.name.split('_').any(|part| DURATION_NAMES.contains(&part))
    }
}

/// A type, by crate folder and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeName {
    /// Folder of the crate.
    pub crate_folder: String,
    /// Name without parameters.
    pub name: String,
}

/// What was found in all Rust files.
#[derive(Debug, Default)]
pub struct Code {
    /// All functions with a body.
    pub functions: Vec<Function>,
    /// Public methods in inherent `impl` blocks of the product.
    pub public_methods: BTreeMap<TypeName, Vec<Place>>,
    /// All constants of durations.
    pub durations: Vec<DurationConstant>,
    /// Public items of the product without documentation: name and place.
    pub undocumented: Vec<NamedPlace>,
    /// Names in the code, once per file.
    pub names: Vec<NamedPlace>,
}

/// A name and where it is defined.
#[derive(Debug, Clone)]
pub struct NamedPlace {
    /// The name.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// Parses all Rust sources.
///
/// # Errors
/// A file that does not parse.
pub fn code(sources: &[Source]) -> Result<Code> {
    let mut code = Code::default();
    for source in sources.iter().filter(|source| source.language == Language::Rust) {
        let file = syn::parse_file(&source.text).with_context(|| source.path.clone())?;
        let is_test = source.is_test || has_test_mark(&file.attrs);
        let visitor = Visitor { source, code: &mut code, is_test, owner: None, is_trait_impl: false };
        { visitor }.visit_file(&file);
    }
    let mut seen = HashSet::new();
    code.names.retain(|name| seen.insert(format!("{} {}", name.place.path, name.name)));
    Ok(code)
}

struct Visitor<'a> {
    source: &'a Source,
    code: &'a mut Code,
    is_test: bool,
    /// The type of the `impl` block or trait around.
    owner: Option<String>,
    is_trait_impl: bool,
}

impl Visitor<'_> {
    fn place(&self, spanned: &impl Spanned) -> Place {
        Place { path: self.source.path.clone(), line: spanned.span().start().line }
    }

    /// Visits what is inside an item, which is a test where its attributes say so.
    fn within(&mut self, attributes: &[Attribute], inside: impl FnOnce(&mut Self)) {
        let before = self.is_test;
        self.is_test |= has_test_mark(attributes);
        inside(self);
        self.is_test = before;
    }

    fn function(&mut self, signature: &Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.brace_token.span.close().end().line;
        let arguments = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(argument),
            FnArg::Receiver(_) => None,
        });
        let name = signature.ident.to_string();
        let function = Function {
            name: self.owner.as_ref().map_or_else(|| name.clone(), |owner| format!("{owner}::{name}")),
            place: self.place(signature),
            lines: last + 1 - first,
            parameters: arguments.clone().count(),
            tuples: arguments
                .filter(|argument| is_tuple(&argument.ty))
                .map(|argument| label(&argument.pat))
                .collect(),
            is_test: self.is_test,
        };
        self.code.functions.push(function);
    }

    fn item(&mut self, visibility: &Visibility, attributes: &[Attribute], name: &syn::Ident) {
        let is_public = matches!(visibility, Visibility::Public(_));
        if is_public && !self.is_test && !attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
        {
            self.code.undocumented.push(NamedPlace { name: name.to_string(), place: self.place(name) });
        }
    }

    fn constant(&mut self, name: &syn::Ident, kind: &Type) {
        let Type::Path(path) = kind else { return };
        if path.path.segments.last().is_some_and(|last| last.ident == "Duration") {
            let constant =
                DurationConstant { name: name.to_string(), place: self.place(name), is_test: self.is_test };
            self.code.durations.push(constant);
        }
    }

    fn method(&mut self, method: &syn::ImplItemFn) {
        let is_public = matches!(method.vis, Visibility::Public(_));
        let Some(owner) = self.owner.clone().filter(|_| is_public && !self.is_test && !self.is_trait_impl)
        else {
            return;
        };
        let name = TypeName { crate_folder: self.source.crate_folder().to_owned(), name: owner };
        let place = self.place(&method.sig);
        self.code.public_methods.entry(name).or_default().push(place);
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_ident(&mut self, name: &'ast syn::Ident) {
        let place = self.place(name);
        self.code.names.push(NamedPlace { name: name.to_string(), place });
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.item(&item.vis, &item.attrs, &item.ident);
        }
        self.within(&item.attrs, |inner| visit::visit_item_mod(inner, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(&item.attrs, |inner| {
            let owner = inner.owner.take();
            inner.item(&item.vis, &item.attrs, &item.sig.ident);
            inner.function(&item.sig, &item.block);
            visit::visit_item_fn(inner, item);
            inner.owner = owner;
        });
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let owner = self.owner.replace(type_name(&item.self_ty));
        let is_trait_impl = std::mem::replace(&mut self.is_trait_impl, item.trait_.is_some());
        self.within(&item.attrs, |inner| visit::visit_item_impl(inner, item));
        self.owner = owner;
        self.is_trait_impl = is_trait_impl;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(&item.attrs, |inner| {
            inner.method(item);
            if !inner.is_trait_impl {
                inner.item(&item.vis, &item.attrs, &item.sig.ident);
            }
            inner.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(inner, item);
        });
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(&item.ident, &item.ty);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.item(&item.vis, &item.attrs, &item.ident);
        let owner = self.owner.replace(item.ident.to_string());
        self.within(&item.attrs, |inner| visit::visit_item_trait(inner, item));
        self.owner = owner;
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.within(&item.attrs, |inner| {
            inner.item(&item.vis, &item.attrs, &item.ident);
            inner.constant(&item.ident, &item.ty);
            visit::visit_item_const(inner, item);
        });
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.item(&item.vis, &item.attrs, &item.ident);
        self.constant(&item.ident, &item.ty);
        visit::visit_item_static(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.within(&item.attrs, |inner| {
            inner.item(&item.vis, &item.attrs, &item.ident);
            visit::visit_item_struct(inner, item);
        });
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.within(&item.attrs, |inner| {
            inner.item(&item.vis, &item.attrs, &item.ident);
            visit::visit_item_enum(inner, item);
        });
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.item(&item.vis, &item.attrs, &item.ident);
        visit::visit_item_type(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.item(&field.vis, &field.attrs, name);
        }
        visit::visit_field(self, field);
    }
}

/// Whether attributes make an item part of tests: `#[test]`, `#[tokio::test]`, `#[cfg(test)]`.
fn has_test_mark(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let is_test = path.segments.last().is_some_and(|last| last.ident == "test");
        let condition = attribute.meta.require_list().ok().filter(|_| path.is_ident("cfg"));
        is_test || condition.is_some_and(|list| list.tokens.to_string() == "test")
    })
}

/// A tuple, or a reference to one. `()` is none.
fn is_tuple(kind: &Type) -> bool {
    match kind {
        Type::Tuple(tuple) => !tuple.elems.is_empty(),
        Type::Reference(reference) => is_tuple(&reference.elem),
        Type::Paren(inner) => is_tuple(&inner.elem),
        _ => false,
    }
}

fn label(pattern: &Pat) -> String {
    match pattern {
        Pat::Ident(name) => name.ident.to_string(),
        Pat::Tuple(tuple) => {
            let names: Vec<String> = tuple.elems.iter().map(label).collect();
            format!("({})", names.join(", "))
        }
        Pat::Reference(reference) => label(&reference.pat),
        _ => "_".to_owned(),
    }
}

fn type_name(kind: &Type) -> String {
    match kind {
        Type::Path(path) => path.path.segments.last().map_or_else(String::new, |last| last.ident.to_string()),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => "_".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Code {
        let source = Source {
            path: "store/src/one.rs".to_owned(),
            language: Language::Rust,
            text: text.to_owned(),
            is_test: false,
        };
        code(&[source]).expect("source parses")
    }

    #[test]
    fn functions_are_measured_with_their_parameters() {
        let code =
            parsed("impl Store {\n    pub fn put(&self, a: u8, (b, c): &(u8, u8), d: ()) {\n    }\n}\n");
        let put = &code.functions[0];
        assert_eq!((put.name.as_str(), put.lines, put.parameters), ("Store::put", 2, 3));
        assert_eq!(put.tuples, ["(b, c)"]);
        let methods = code.public_methods.first_key_value().expect("a type");
        assert_eq!(
            (methods.0.name.as_str(), methods.0.crate_folder.as_str(), methods.1.len()),
            ("Store", "store", 1)
        );
        assert_eq!(code.undocumented.len(), 1);
    }

    #[test]
    fn items_of_tests_do_not_count_as_product() {
        let code =
            parsed("#[cfg(test)]\nmod tests {\n    pub fn a() {}\n}\n#[tokio::test]\nasync fn b() {}\n");
        assert!(code.functions.iter().all(|function| function.is_test));
        assert!(code.undocumented.is_empty());
    }

    #[test]
    fn duration_is_named_by_what_it_bounds() {
        let code = parsed("const COUNT: Duration = X;\nconst QUERY_TIMEOUT: std::time::Duration = X;\n");
        let named: Vec<bool> = code.durations.iter().map(DurationConstant::is_named).collect();
        assert_eq!(named, [false, true]);
    }
}
