//! Pictures in words without a model, captions in a catalogue, and whether words say what a picture
//! shows.

use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb};
use pollster::block_on;
use serde_json::json;
use tributary::caption::{Captions, caption_by_colours, describe};
use tributary::clip_score::clip_score;
use tributary::encode::Inputs;
use tributary::encoder::{self, Modality, normalize};
use tributary_core::backend::cpu::Cpu;
use tributary_core::preprocess::Picture;
use tributary_core::recommend::Catalogue;
use tributary_tests::files::assert_refused;
use tributary_tests::folder::Folder;
use tributary_tests::language::with_tokenizer;
use tributary_tests::tributary;

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn of(width: usize, height: usize, colour: impl Fn(usize, usize) -> [u8; 3]) -> Picture {
    let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rgb: Vec<u8> = rgb.flat_map(|(x, y)| colour(x, y)).collect();
    Picture::new("test", width, height, rgb).unwrap()
}

#[test]
fn a_picture_is_told_by_its_colours() {
    let plain = |colour: [u8; 3]| describe(&of(7, 200, |_, _| colour));
    assert_eq!(plain([0; 3]), "a very dark, colourless picture, mostly black");
    assert_eq!(plain([255; 3]), "a very bright, colourless picture, mostly white");
    for (rgb, name) in [
        ([120, 120, 122], "grey"),
        ([220, 20, 20], "red"),
        ([230, 140, 20], "orange"),
        ([110, 60, 20], "brown"),
        ([240, 230, 30], "yellow"),
        ([30, 160, 40], "green"),
        ([20, 60, 220], "blue"),
        ([130, 30, 200], "purple"),
        ([240, 120, 200], "pink"),
    ] {
        assert!(plain(rgb).ends_with(&format!("mostly {name}")), "{rgb:?}: {}", plain(rgb));
    }
    // Two thirds blue over one of red; what is small has no name.
    let flag = of(90, 90, |x, y| match (x, y) {
        (0..9, 0..9) => [255, 255, 255],
        (_, 0..60) => [20, 60, 220],
        _ => [220, 20, 20],
    });
    let said = describe(&flag);
    assert!(said.ends_with("mostly blue with some red; the bottom is red"), "{said}");
    let said = describe(&of(1, 1, |_, _| [20, 60, 220]));
    assert!(said.contains("mostly blue"), "{said}");
}

/// Items a and b with pictures, c without, d with a file that is none.
fn shop() -> Folder {
    let shop = Folder::new("picture-words");
    std::fs::create_dir_all(shop.path().join("images")).unwrap();
    for (name, shift) in [("a", 0), ("b", 90)] {
        let image = ImageBuffer::from_fn(30, 20, |x, y| {
            Rgb([(x * 8) as u8, (y * 12) as u8 ^ shift, 255 - (x * y % 200) as u8])
        });
        let path = shop.path().join(format!("images/{name}.png"));
        DynamicImage::ImageRgb8(image).save_with_format(path, ImageFormat::Png).unwrap();
    }
    std::fs::write(shop.path().join("images/d.png"), "not a picture").unwrap();
    let item = |id: &str, image: bool| {
        let mut item = json!({"id": id, "title": format!("Item {id}")});
        if image {
            item["image"] = json!(format!("{id}.png"));
        }
        format!("{item}\n")
    };
    let items = [item("a", true), item("b", true), item("c", false), item("d", true)];
    shop.write("catalogue.jsonl", items.concat());
    shop
}

#[test]
fn measured_captions_are_a_file_of_captions_and_enter_a_catalogue() {
    let shop = shop();
    let out = shop.path().join("captions.jsonl");
    let call = ["caption", "--model", "colours", "--data", text(shop.path()), "--out", text(&out)];
    let answer = tributary(&call).unwrap();
    assert_eq!((&answer["captioned"], &answer["absent"]), (&json!(2), &json!(1)));
    assert_eq!(answer["failed"][0]["name"], "d");
    assert_eq!(tributary(&call).unwrap()["was_current"], true);
    let image = shop.path().join("images/a.png");
    let one = tributary(&["caption", "--model", "colours", "--image", text(&image)]).unwrap();
    let captions = Captions::read(&out).unwrap();
    assert_eq!(captions.header.model, "colours 1");
    assert_eq!(one["caption"], captions.by_id["a"]);

    let bytes = std::fs::read(shop.path().join("catalogue.jsonl")).unwrap();
    let catalogue = Catalogue::from_jsonl("catalogue.jsonl", &bytes).unwrap();
    let mut captioned = catalogue.clone();
    let mut sparse = captions.clone();
    sparse.by_id.insert("c".into(), " ".into());
    sparse.by_id.insert("elsewhere".into(), "another shop's".into());
    assert_eq!(sparse.apply(&mut captioned).unwrap(), 2, "no empty one, none of other items");
    let item = captioned.get(0).unwrap();
    assert_eq!(item.caption.as_ref(), captions.by_id.get("a"));
    assert_eq!(item.caption_model.as_deref(), Some("colours 1"));
    assert_eq!(captioned.get(2), catalogue.get(2));

    for (content, words) in [
        ("", &["line 1", "header"][..]),
        ("{\"id\":\"a\",\"caption\":\"b\"}\n", &["line 1"]),
        (&(std::fs::read_to_string(&out).unwrap() + "{\"id\":1}\n"), &["line 4", "caption"]),
    ] {
        let path = shop.write("bad.jsonl", content);
        assert_refused(content, Captions::read(&path), words);
    }
    let mut long = captions.clone();
    long.by_id.insert("c".into(), "x".repeat(70_000));
    assert!(long.apply(&mut catalogue.clone()).is_err(), "longer than a catalogue's may be");
    sparse.by_id.retain(|id, _| id == "elsewhere");
    assert_refused("others", sparse.apply(&mut captioned), &["none of them"]);
}

#[test]
fn a_clip_score_is_the_mean_cosine_beside_that_of_other_texts() {
    let (shop, model) = (shop(), with_tokenizer("clip-gelu"));
    let clip = encoder::open(Cpu::new(), model.path()).unwrap();
    let inputs = Inputs::of_catalogue(shop.path(), Modality::Image).unwrap();
    let said = |name: &str| Some(if name == "a" { "blue cup" } else { "tea tea" }.to_owned());
    let found = clip_score(&clip, &inputs, said, 1, |_| ()).unwrap();
    assert_eq!((found.items, found.absent, found.failures.len()), (2, 1, 1));
    let picture = |name: &str| {
        let path = shop.path().join(format!("images/{name}.png"));
        tributary::encode::read_picture(&path).unwrap()
    };
    let unit = |mut rows: Vec<Vec<f32>>| {
        rows.iter_mut().for_each(|row| normalize(row));
        rows
    };
    let pictures = unit(block_on(clip.embed_pictures(&[picture("a"), picture("b")])).unwrap());
    let texts = unit(block_on(clip.embed_texts(&["blue cup", "tea tea"])).unwrap());
    let cosine = |p: usize, t: usize| -> f64 {
        pictures[p].iter().zip(&texts[t]).map(|(&p, &t)| f64::from(p * t)).sum()
    };
    let near = |found: f64, truth: f64| assert!((found - truth).abs() < 1e-6, "{found}, {truth}");
    near(found.cosine, (cosine(0, 0) + cosine(1, 1)) / 2.0);
    // Of two items each is the other's only other.
    near(found.shuffled_cosine, (cosine(0, 1) + cosine(1, 0)) / 2.0);
    near(found.margin[0], found.cosine - found.shuffled_cosine);
    near(found.clip_score, 1.25 * (cosine(0, 0).max(0.0) + cosine(1, 1).max(0.0)));
    let nobody = clip_score(&clip, &inputs, |_: &str| None, 1, |_| ());
    assert_refused("nothing said", nobody, &["at least two pictures"]);

    // The program: captions of a file, and a catalogue's own texts.
    let out = shop.path().join("captions.jsonl");
    caption_by_colours(&inputs, &out, &mut |_, _| ()).unwrap();
    let call = ["clip-score", "--model", text(model.path()), "--data", text(shop.path())];
    let own = |more: &[&str]| tributary(&[&call[..], more].concat());
    let of_file = own(&["--captions", text(&out)]).unwrap();
    assert_eq!((&of_file["items"], &of_file["failed"]), (&json!(2), &json!([])));
    let titles = own(&["--field", "text"]).unwrap();
    assert_eq!((&titles["items"], &titles["failed"][0]["name"]), (&json!(2), &json!("d")));
    assert!(own(&["--field", "caption"]).unwrap_err().contains("at least two pictures"));
}
