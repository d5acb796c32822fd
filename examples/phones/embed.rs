// Cargo.toml: ort = "2.0.0-rc.13", tokenizers = { version = "0.22", default-features = false, features = ["onig"] }
use ort::{session::Session, value::Tensor};
use tokenizers::Tokenizer;

pub struct Model {
    session: Session,
    tokenizer: Tokenizer,
    before: Vec<u32>,
    behind: Vec<u32>,
    max_tokens: usize,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Model {
    /// bundle: its folder; max_tokens: as manifest.json says
    pub fn load(bundle: &str, max_tokens: usize) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_file(format!("{bundle}/tokenizer.json"))?;
        tokenizer.set_encode_special_tokens(true); // "[SEP]" that a person types is plain text
        let whole = tokenizer.encode("a", true)?.get_ids().to_vec();
        let content = tokenizer.encode("a", false)?.get_ids().to_vec();
        let start = whole.windows(content.len()).position(|part| part == content).ok_or("special tokens")?;
        let session = Session::builder()?.commit_from_file(format!("{bundle}/model.onnx"))?;
        let (before, behind) = (whole[..start].to_vec(), whole[start + content.len()..].to_vec());
        Ok(Self { session, tokenizer, before, behind, max_tokens })
    }

    /// A vector of length 1. text: with the prompt of its role in front
    pub fn encode(&mut self, text: &str) -> Result<Vec<f32>> {
        let text: String = text.chars().take(8 * self.max_tokens).collect(); // enough for nearly all texts
        let content = self.tokenizer.encode(text, false)?;
        let most = self.max_tokens - self.before.len() - self.behind.len();
        let content = content.get_ids().iter().take(most);
        let ids: Vec<i64> = self.before.iter().chain(content).chain(&self.behind).map(|&id| id as i64).collect();
        let (shape, mask) = ([1, ids.len()], vec![1i64; ids.len()]);
        let outputs = self.session.run(ort::inputs![
            "input_ids" => Tensor::from_array((shape, ids))?,
            "attention_mask" => Tensor::from_array((shape, mask))?,
        ])?;
        Ok(outputs["embedding"].try_extract_tensor::<f32>()?.1.to_vec())
    }
}
