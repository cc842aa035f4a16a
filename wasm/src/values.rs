//! Values and errors across the border to JavaScript.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_wasm_bindgen::Serializer;
use tributary_core::preprocess::Picture;
use tributary_core::{Error, ErrorKind};
use wasm_bindgen::prelude::*;

/// An error on its way to JavaScript, where it is an `Error` with `code` and `detail`.
pub struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Failure> for JsValue {
    fn from(Failure(error): Failure) -> Self {
        let js = js_sys::Error::new(&error.to_string());
        // Setting a property of a fresh object cannot fail.
        let set = |target: &JsValue, name: &str, value: &JsValue| {
            let _ = js_sys::Reflect::set(target, &name.into(), value);
        };
        set(&js, "code", &error.kind().code().into());
        if let Some((file, field)) = error.place() {
            let detail = js_sys::Object::new();
            if error.kind() != ErrorKind::InvalidArgument {
                set(&detail, "file", &file.into());
            }
            set(&detail, "field", &field.into());
            set(&js, "detail", &detail);
        }
        js.into()
    }
}

/// Plain objects, arrays, numbers and strings, as JSON has them.
pub fn to_js<T: Serialize>(value: &T) -> Result<JsValue, Failure> {
    let value = value.serialize(&Serializer::json_compatible());
    value.map_err(|error| Error::Internal(error.to_string()).into())
}

/// What the caller gave as `argument` of `operation`.
pub fn from_js<T: DeserializeOwned>(
    operation: &'static str,
    argument: &'static str,
    value: JsValue,
) -> Result<T, Failure> {
    serde_wasm_bindgen::from_value(value).map_err(|error| {
        let expected = "what the package's types say";
        Error::argument(operation, argument, expected, error).into()
    })
}

/// `{ width, height, rgba }`, of which alpha is dropped.
pub fn picture(value: &JsValue) -> Result<Picture, Failure> {
    let get = |name: &str| js_sys::Reflect::get(value, &name.into()).unwrap_or(JsValue::UNDEFINED);
    let side = |name: &'static str| {
        let side = get(name).as_f64().filter(|side| *side >= 0.0 && side.fract() == 0.0);
        let expected = "a picture { width, height, rgba }";
        side.map(|side| side as usize)
            .ok_or_else(|| Error::argument("picture", name, expected, "none"))
    };
    let (width, height) = (side("width")?, side("height")?);
    let rgba = js_sys::Uint8Array::new(&get("rgba")).to_vec();
    Ok(Picture::from_rgba("picture", width, height, &rgba)?)
}
