import { Model } from 'thimble';
const model = await Model.open('/model.thimble', { onProgress: ({ loaded, total }) => console.log(loaded / total) });
const chat = model.chat({ system: 'You are a helpful assistant.' });
for await (const piece of chat.send('Why is the sky blue?')) document.body.append(piece);
model.dispose();
document.title = 'done';
