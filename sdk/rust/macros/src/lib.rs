//! The macro of `gilliam-sdk`; use it as `#[gilliam::job]`.
//!
//! It reads a function's signature only as far as it must, so that nothing is compiled for it but itself.

use proc_macro::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// Makes a function the handler of a queue's jobs: the component exports `gilliam:worker/handler`.
///
/// The function takes a `gilliam::Job<T>` of any `T` that serde reads from JSON, or of `gilliam::Raw`, and answers a
/// `Result<(), E>` where `E` is `gilliam::JobError` or an error. It may be `async`. A crate has one, in a library of
/// type `cdylib`.
///
/// ```ignore
/// #[gilliam::job]
/// async fn send_email(job: gilliam::Job<Email>) -> Result<(), gilliam::JobError> {
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn job(arguments: TokenStream, function: TokenStream) -> TokenStream {
    if let Some(argument) = arguments.into_iter().next() {
        return refused(argument.span(), "#[gilliam::job] takes no arguments");
    }
    match handler(function.clone()) {
        Ok(handler) => {
            let call = if handler.is_async { "run_async" } else { "run" };
            let export = format!(
                "const _: () = {{
                    struct Handler;
                    impl ::gilliam::__private::Guest for Handler {{
                        fn handle(
                            job: ::gilliam::__private::WitJob,
                        ) -> ::core::result::Result<(), ::gilliam::__private::WitJobError> {{
                            ::gilliam::__private::{call}(job, {name})
                        }}
                    }}
                    ::gilliam::__private::export!(Handler with_types_in ::gilliam::__private::bindings);
                }};",
                name = handler.name
            );
            let export: TokenStream = export.parse().expect("the text above is Rust");
            [function, export].into_iter().collect()
        }
        Err((span, message)) => [function, refused(span, message)].into_iter().collect(),
    }
}

struct Handler {
    name: String,
    is_async: bool,
}

/// The name of the function, if it is one that can be a handler.
fn handler(function: TokenStream) -> Result<Handler, (Span, &'static str)> {
    let mut is_async = false;
    let mut tokens = function.into_iter();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(word) = token else { continue };
        match word.to_string().as_str() {
            "async" => is_async = true,
            "unsafe" | "extern" => return Err((word.span(), "a handler of jobs is an ordinary function")),
            "struct" | "enum" | "impl" | "mod" | "trait" | "static" | "type" => break,
            "fn" => {
                let Some(TokenTree::Ident(name)) = tokens.next() else {
                    break;
                };
                let Some(TokenTree::Group(parameters)) = tokens.next() else {
                    return Err((name.span(), "a handler of jobs has no type parameters"));
                };
                return match n_parameters(&parameters) {
                    1 => Ok(Handler {
                        name: name.to_string(),
                        is_async,
                    }),
                    _ => Err((
                        parameters.span(),
                        "a handler takes one thing: job: gilliam::Job<T>",
                    )),
                };
            }
            _ => {}
        }
    }
    Err((Span::call_site(), "#[gilliam::job] is for a function"))
}

/// Parameters between parentheses: the commas that stand outside angle brackets separate them.
fn n_parameters(parameters: &Group) -> usize {
    let (mut depth, mut count, mut is_open) = (0_usize, 0, false);
    if parameters.delimiter() != Delimiter::Parenthesis {
        return 0;
    }
    for token in parameters.stream() {
        match &token {
            TokenTree::Punct(mark) if mark.as_char() == '<' => depth += 1,
            TokenTree::Punct(mark) if mark.as_char() == '>' => depth = depth.saturating_sub(1),
            TokenTree::Punct(mark) if mark.as_char() == ',' && depth == 0 => {
                is_open = false;
                continue;
            }
            _ => {}
        }
        if !is_open {
            is_open = true;
            count += 1;
        }
    }
    count
}

/// `compile_error!("…");` at a place.
fn refused(span: Span, message: &str) -> TokenStream {
    let mut text = Group::new(
        Delimiter::Parenthesis,
        TokenStream::from(TokenTree::Literal(proc_macro::Literal::string(message))),
    );
    text.set_span(span);
    let tokens: [TokenTree; 4] = [
        Ident::new("compile_error", span).into(),
        Punct::new('!', Spacing::Alone).into(),
        text.into(),
        Punct::new(';', Spacing::Alone).into(),
    ];
    tokens.into_iter().collect()
}
