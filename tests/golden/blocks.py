import gguf, numpy as np, sys
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize
rng=np.random.default_rng(7)
print("# A random block of each type and its numbers: columns are type, block, numbers (little-endian f32), in hex.")
print("# Made by blocks.py with python's gguf 0.19.0.")
for t in [T.Q4_0,T.Q4_1,T.Q5_0,T.Q5_1,T.Q8_0,T.Q2_K,T.Q3_K,T.Q4_K,T.Q5_K,T.Q6_K]:
    n,size=gguf.GGML_QUANT_SIZES[t]
    b=rng.integers(0,256,size,dtype=np.uint8)
    # scales of a sensible size: f16 fields
    where={'Q4_0':[0],'Q4_1':[0,2],'Q5_0':[0],'Q5_1':[0,2],'Q8_0':[0],'Q2_K':[80,82],'Q3_K':[108],'Q4_K':[0,2],'Q5_K':[0,2],'Q6_K':[208]}[t.name]
    for at in where:
        b[at:at+2]=np.frombuffer(np.float16(rng.normal(0,.05)).tobytes(),np.uint8)
    v=dequantize(b.reshape(1,-1),t).astype('<f4').ravel()
    assert len(v)==n
    print(t.name,b.tobytes().hex(),v.tobytes().hex())
