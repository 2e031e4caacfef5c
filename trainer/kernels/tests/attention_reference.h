// Attention in double precision, and inputs for it.
#pragma once
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>
#include "../device.cuh"

enum class Documents { None, OfOneToken, Random };

struct Size {
  int sequences, context, heads, kv_heads;
  Documents documents;
  float query_size = 1.5f;  // standard deviation: large ones make a softmax that is nearly one key's
  unsigned document_length = 45;  // of random documents, on average
  size_t rows() const { return size_t(sequences) * context; }
  size_t query_elements() const { return rows() * heads * 64; }
  size_t key_elements() const { return rows() * kv_heads * 64; }
  size_t query_row(int sequence, int head, int position) const { return ((size_t(sequence) * heads + head) * context + position) * 64; }
  size_t key_row(int sequence, int head, int position) const { return ((size_t(sequence) * kv_heads + head / (heads / kv_heads)) * context + position) * 64; }
  size_t token_head(int sequence, int head, int position) const { return (size_t(sequence) * context + position) * heads + head; }
};

// Inputs as bf16 holds them, and what attention makes of them.
struct Reference {
  Size size;
  float scale = 0.125f;
  std::vector<bf16> query, key, value, d_output;
  std::vector<uint32_t> starts;
  std::vector<double> output, log_sum, d_query, d_key, d_value;

  Reference(Size size, unsigned seed) : size(size) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto numbers = [&](size_t n, float deviation) {
      std::vector<bf16> v(n);
      for (bf16& x : v) x = to_bf16(normal(random) * deviation);
      return v;
    };
    query = numbers(size.query_elements(), size.query_size);
    key = numbers(size.key_elements(), 1);
    value = numbers(size.key_elements(), 1);
    d_output = numbers(size.query_elements(), 1);
    starts.resize(size.rows());
    for (size_t i = 0; i < size.rows(); i++) {
      const uint32_t position = uint32_t(i % size.context);
      const bool begins = position == 0 || size.documents == Documents::OfOneToken || (size.documents == Documents::Random && random() % size.document_length == 0);
      starts[i] = begins ? position : starts[i - 1];
    }
    output.assign(size.query_elements(), 0);
    log_sum.assign(size.rows() * size.heads, 0);
    d_query.assign(size.query_elements(), 0);
    d_key.assign(size.key_elements(), 0);
    d_value.assign(size.key_elements(), 0);
    for (int s = 0; s < size.sequences; s++)
      for (int h = 0; h < size.heads; h++)
        for (int p = 0; p < size.context; p++) attend(s, h, p);
  }

 private:
  static double dot(const bf16* a, const bf16* b) {
    double sum = 0;
    for (int i = 0; i < 64; i++) sum += double(to_float(a[i])) * to_float(b[i]);
    return sum;
  }

  void attend(int sequence, int head, int position) {
    const size_t own = size.query_row(sequence, head, position), keys = size.key_row(sequence, head, 0), place = size.token_head(sequence, head, position);
    const int first = int(starts[size_t(sequence) * size.context + position]);
    std::vector<double> weight(position + 1 - first);
    double top = -1e300, total = 0;
    for (int j = first; j <= position; j++) {
      weight[j - first] = scale * dot(&query[own], &key[keys + j * 64]);
      top = std::max(top, weight[j - first]);
    }
    for (double& w : weight) total += w = std::exp(w - top);
    log_sum[place] = top + std::log(total);
    double* out = &output[place * 64];
    for (int j = first; j <= position; j++) {
      weight[j - first] /= total;
      for (int i = 0; i < 64; i++) out[i] += weight[j - first] * to_float(value[keys + j * 64 + i]);
    }
    const bf16* d_out = &d_output[place * 64];
    double out_dot = 0;
    for (int i = 0; i < 64; i++) out_dot += out[i] * to_float(d_out[i]);
    for (int j = first; j <= position; j++) {
      const size_t other = keys + j * 64;
      const double d_score = weight[j - first] * (dot(d_out, &value[other]) - out_dot) * scale;
      for (int i = 0; i < 64; i++) {
        d_value[other + i] += weight[j - first] * to_float(d_out[i]);
        d_query[own + i] += d_score * to_float(key[other + i]);
        d_key[other + i] += d_score * to_float(query[own + i]);
      }
    }
  }
};
